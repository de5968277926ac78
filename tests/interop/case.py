"""One exported model: its files, how it is imported, and what its framework answers.

The scripts of ``sources`` write it in environments with NumPy at most, the runner reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

# what the service promises of a model that was imported
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """A folder with ONNX files, and what is expected of them.

    Attributes:
        name: The model's, once it is imported.
        exporter: What wrote the files, for people.
        arguments: Of ``hourglass import``, in the folder of the case.
        answers: The framework's own: ``rows``, and of ``code``, ``decoded`` (the framework's
            decoder on its own code) and ``reconstruction`` those that it has; ``picture`` and
            ``picture_answer`` as bytes of pixels where the model takes pictures.
        width: Of the range of values, by which an error is divided.
        tolerance: Largest difference, relative to ``max(1, |value|)``.
        why: Where the tolerance is not the usual one.
        says: What the import must tell, besides succeeding.
        is_refused: Whether the import must fail, saying that.
    """

    name: str
    exporter: str
    arguments: list[str]
    answers: Mapping[str, Any] = field(repr=False)
    width: float = 1.0
    tolerance: float = TOLERANCE
    why: str = ""
    says: list[str] = field(default_factory=list)
    is_refused: bool = False

    def write(self, folder: Path) -> None:
        """Write all but the ONNX files into *folder*."""
        rest = {name: value for name, value in vars(self).items() if name != "answers"}
        (folder / "case.json").write_text(json.dumps(rest, indent=2) + "\n", encoding="utf-8")
        np.save(folder / "rows.npy", self.answers["rows"])
        np.savez(folder / "answers.npz", **self.answers)

    @classmethod
    def read(cls, folder: Path) -> Self:
        rest = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        with np.load(folder / "answers.npz") as arrays:
            return cls(answers=dict(arrays), **rest)


def folder_of(name: str, within: Path) -> Path:
    """Make the folder of a case."""
    folder = within / name
    folder.mkdir(parents=True)
    return folder


def rows_like(*shape: int, seed: int = 0, count: int = 64) -> Any:
    """Rows in [0, 1] that lie near a curved surface, as rows worth an autoencoder do."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(count, 3))
    mixed = np.tanh(hidden @ random.normal(size=(3, int(np.prod(shape)))))
    return ((mixed + 1) / 2).astype(np.float32).reshape(count, *shape)
