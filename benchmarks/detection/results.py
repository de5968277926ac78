"""What experiments gave: kept in a file, so that a run that was cut off goes on where it was."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

Figures: TypeAlias = dict[str, tuple[float, float]]
"""AUROC and average precision by detector."""

TABLE: Final = "table"
VALIDATION: Final = "validation"
ONE_NORMAL: Final = "one-normal"
ONE_ANOMALOUS: Final = "one-anomalous"
# the same with the network and the split of RaPP's experiments
AS_PUBLISHED: Final = "as-published"
DIGITS: Final = range(10)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One experiment: which kind, on what, with which seed."""

    kind: str
    subject: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.subject}/{self.seed}"


@dataclass(slots=True)
class Results:
    """What experiments gave, kept in a file after each of them."""

    path: Path
    figures: dict[str, Figures] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path) -> "Results":
        """Read what is there already."""
        figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return cls(path, figures)

    def keep(self, key: Key, figures: Figures) -> None:
        self.figures[str(key)] = figures
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.figures, indent=1), encoding="utf-8")

    def of(self, kind: str, subject: str) -> list[Figures]:
        """Give the figures of all seeds."""
        start = f"{kind}/{subject}/"
        return [found for name, found in self.figures.items() if name.startswith(start)]

    def has(self, key: Key) -> bool:
        return str(key) in self.figures
