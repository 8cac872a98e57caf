"""Check params.yaml, and do nothing else.  `python -m stages.check`, or `make check`"""

from src.interface import console


def main() -> None:
    """All is done: what comes before each stage (stages/__init__.py) checks every value."""
    console.say("params.yaml: every value is allowed")


if __name__ == "__main__":
    console.run(main)
