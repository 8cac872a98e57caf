"""Which of many processes this is, as torchrun says in the environment; needs no torch, whose import takes seconds."""

import os


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Whether this process writes the files: exactly one does."""
    return rank() == 0
