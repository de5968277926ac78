"""The rows of a recipe, sorted by what they may be used for."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from training.data import mnist
from training.data.photographs import cut_outs
from training.recipe import HoldOut
from training.splits import Split, in_stretches

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Chosen = TypeVar("Chosen", bound=np.generic)

PHOTOGRAPH_ROWS = 10_000
PHOTOGRAPH_SEED = 0  # of the places only; the same cut-outs whatever seed a model is trained with


@dataclass(frozen=True, slots=True)
class RowSets:
    """Rows for each use, as the model takes them.

    Attributes:
        train: What the weights learn from.
        validation: What chooses the epoch.
        calibration: What the threshold comes from.
        test: The official test rows, for the published figures alone.
        labels: Of the test rows, where anomalies are to be found 1 for them and 0 for others; no
            model is trained with labels.
        photographs: Foreign rows, where a folder of photographs was given.
        others: Strange rows beside the validation rows, where a measure is chosen with them.
    """

    train: Rows
    validation: Rows
    calibration: Rows
    test: Rows
    labels: Labels
    photographs: Rows | None = None
    others: Rows | None = None

    @property
    def sizes(self) -> dict[str, int]:
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "calibration": len(self.calibration),
            "test": len(self.test),
        }


def gather(
    hold_out: HoldOut,
    folder: Path,
    *,
    train_rows: int | None = None,
    source: str = mnist.SOURCE,
    photographs: Path | None = None,
) -> RowSets:
    """Read MNIST from *folder*, and cut-outs of *photographs* where there are some.

    Args:
        hold_out: Which rows are not trained on.
        folder: Of the data set's files.
        train_rows: So many of the other rows instead of all.
        source: Where missing files come from.
        photographs: A folder of pictures of anything.
    """
    parts = mnist.load(folder, source=source)
    images = parts["train"].images
    split = sort(len(images), hold_out, train_rows)
    return RowSets(
        train=mnist.as_rows(images[split.train]),
        validation=mnist.as_rows(images[split.validation]),
        calibration=mnist.as_rows(images[split.calibration]),
        test=mnist.as_rows(parts["test"].images),
        labels=parts["test"].labels,
        photographs=None if photographs is None else _foreign(photographs, images.shape[1]),
    )


def sort(rows: int, hold_out: HoldOut, train_rows: int | None) -> Split:
    """Say which of so many rows are for what, with *train_rows* to train on or with all others."""
    split = in_stretches(
        rows,
        validation=hold_out.validation,
        calibration=hold_out.calibration,
        stretches=hold_out.stretches,
    )
    return split if train_rows is None else replace(split, train=spread(split.train, train_rows))


def spread(rows: npt.NDArray[Chosen], count: int) -> npt.NDArray[Chosen]:
    """Take *count* rows evenly spaced, so that nobody has chosen them."""
    chosen: npt.NDArray[Chosen] = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    return chosen


def _foreign(folder: Path, side: int) -> Rows:
    return mnist.as_rows(cut_outs(folder, rows=PHOTOGRAPH_ROWS, side=side, seed=PHOTOGRAPH_SEED))
