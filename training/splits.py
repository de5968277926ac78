"""Which rows are trained on, which choose the weights, which calibrate. No row has two uses."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers for each use, ascending and disjoint."""

    train: Indices
    validation: Indices
    calibration: Indices

    @property
    def sizes(self) -> dict[str, int]:
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "calibration": len(self.calibration),
        }


def in_stretches(rows: int, *, validation: int, calibration: int, stretches: int) -> Split:
    """Hold out stretches of neighbouring rows, spread evenly over the set.

    Sets such as MNIST are ordered by writer. Single rows drawn at random would leave every
    writer in the training rows as well, and their scores would be lower than a stranger's;
    one long stretch would know one group of writers only. Each of *stretches* equal parts of
    the set ends with its share of validation rows, then of calibration rows.

    Args:
        rows: Rows of the whole set.
        validation: Rows that choose the weights, a multiple of *stretches*.
        calibration: Rows that calibrate, a multiple of *stretches*.
        stretches: How many parts; more parts cut through more writers.

    Raises:
        ValueError: The numbers do not divide, or leave nothing to train on.
    """
    if validation % stretches or calibration % stretches:
        raise ValueError(f"held-out rows must be multiples of {stretches} stretches")
    if validation + calibration >= rows:
        raise ValueError("no rows are left to train on")
    ends = np.linspace(0, rows, stretches + 1).astype(int)[1:]
    held = (validation + calibration) // stretches
    first_of_validation = ends - held
    first_of_calibration = ends - calibration // stretches
    chosen = _ranges(first_of_validation, first_of_calibration)
    calibrating = _ranges(first_of_calibration, ends)
    training = np.setdiff1d(np.arange(rows), np.concatenate([chosen, calibrating]))
    return Split(train=training, validation=chosen, calibration=calibrating)


def _ranges(starts: Indices, ends: Indices) -> Indices:
    return np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
