"""Markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Final

NOTHING: Final = "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
