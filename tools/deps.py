"""`make deps`: write into dvc.yaml the code that each stage depends on, from what its script imports.

Files, never folders: a new file in a folder that a stage names would rerun the stage. The text between the marks is
written, all else stays as a person left it. `python -m tools.deps`
"""

import ast
import re
import sys
import textwrap
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PIPELINE = ROOT / "dvc.yaml"
# Observers cannot change an output, so no stage depends on them, nor on what only they import: they check what people
# type, print, estimate and mirror.
OBSERVERS = {
    "src/expectations.py",
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "src/interface").glob("[!_]*.py")),
}
MARKED = re.compile(r"^(?P<indent> *)# code, by make deps\n.*?^(?P=indent)# by hand\n", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"-m stages\.(\w+)")
WIDTH = 120


@cache
def imports(path: str) -> frozenset[str]:
    """Dotted names that `path` imports, with `from src import x` spelled `src.x`, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@cache
def reached_from(path: str) -> frozenset[str]:
    """The project's files that `path` imports, itself among them, through others too; no observers."""
    reached: set[str] = set()
    pending = {path}
    while pending:
        current = pending.pop()
        reached.add(current)
        own = {name.replace(".", "/") + ".py" for name in imports(current) if name.startswith(("src.", "stages."))}
        pending |= {file for file in own if (ROOT / file).is_file()} - reached - OBSERVERS
    return frozenset(reached)


def written(text: str) -> str:
    """`text`, a dvc.yaml, with the code of each stage as its imports have it today."""

    def entry(found: re.Match[str]) -> str:
        stage = COMMAND.findall(text[: found.start()])[-1]
        files = sorted(reached_from(f"stages/{stage}.py"), key=lambda file: (not file.startswith("stages/"), file))
        indent = found["indent"]
        lines = textwrap.fill(
            ", ".join(files) + ",",
            width=WIDTH,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return f"{indent}# code, by make deps\n{lines}\n{indent}# by hand\n"

    return MARKED.sub(entry, text)


def main() -> None:
    before = PIPELINE.read_text(encoding="utf-8")
    after = written(before)
    if before != after:
        PIPELINE.write_text(after, encoding="utf-8")
        sys.stdout.write("dvc.yaml: the code of some stages has changed\n")


if __name__ == "__main__":
    main()
