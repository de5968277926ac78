"""The state between training and everything after it, so that an export needs no retraining."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from training.loop import History, Weights


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished training run.

    Attributes:
        weights: Of the best epoch.
        history: Losses and time.
        seed: Of weights, order of the rows and everything else random.
        epochs: As many as the learning rate was spread over.
        threads: Of torch.
        machine: What it ran on, in words.
        software: Versions that trained.
    """

    weights: Weights
    history: History
    seed: int
    epochs: int
    threads: int
    machine: str
    software: dict[str, str]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {name: getattr(self, name) for name in self.__slots__}
        torch.save(content | {"history": asdict(self.history)}, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what *save* wrote; nothing in the file is executed."""
    content = torch.load(path, weights_only=True)
    return Checkpoint(**content | {"history": History(**content["history"])})
