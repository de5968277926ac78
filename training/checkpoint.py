"""The state between training and everything after it, so that an export needs no retraining."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from training.loop import History, Weights


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A finished training run.

    Attributes:
        weights: Those that were kept.
        history: Losses and time.
        seed: Of weights, order of the rows and everything else random.
        epochs: How many each stage was to have, where that is not what the recipe says.
        threads: Of torch.
        machine: What it ran on, in words.
        software: Versions that trained.
        comparison: MSE on the test rows of the recipe and of each of its rivals, by seed.
    """

    weights: Weights
    history: History
    seed: int
    epochs: int | None
    threads: int
    machine: str
    software: dict[str, str]
    comparison: dict[str, list[float]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {name: getattr(self, name) for name in self.__slots__}
        torch.save(content | {"history": asdict(self.history)}, path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what *save* wrote; nothing in the file is executed."""
    content = torch.load(path, weights_only=True)
    return Checkpoint(**content | {"history": History(**content["history"])})
