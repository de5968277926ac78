"""What is measured of a finished model: its error, its PCA twin's, and what its threshold does.

Scores come in from the package's own graphs (``service.packaging.answers``): the exported
files are the product, and ``service`` holds the one definition of the score.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.scoring.measures import Scores, mean_squared_error

Rows = npt.NDArray[np.float32]


def mean(scores: Scores) -> float:
    """Mean over the rows, summed in double precision."""
    return float(scores.mean(dtype=np.float64))


def pca_mse(train: Rows, test: Rows, *, components: int) -> float:
    """Give the error of principal components, the best that a linear autoencoder can do.

    Args:
        train: Rows that mean and components are fitted on.
        test: Rows that are projected and measured.
        components: As many as the code has values.
    """
    fitted = train.reshape(len(train), -1).astype(np.float64)
    measured = test.reshape(len(test), -1).astype(np.float64)
    middle = fitted.mean(axis=0)
    # of the covariance, which has features x features numbers however many rows there are
    _, _, directions = np.linalg.svd(np.cov(fitted, rowvar=False))
    basis = directions[:components]
    projected = (measured - middle) @ basis.T @ basis + middle
    return mean(mean_squared_error(measured, projected))


def share_above(scores: Scores, threshold: float) -> float:
    """Share of rows that count as anomalous, as ``service.scoring.verdicts`` decides it."""
    return float((scores > np.float32(threshold)).mean())


@dataclass(frozen=True, slots=True)
class Detection:
    """How many foreign rows a threshold finds.

    Attributes:
        rows: Foreign rows.
        share_above: Share of them above the threshold.
        missed_brightness: Mean value of the missed ones; ``None`` where none is missed.
    """

    rows: int
    share_above: float
    missed_brightness: float | None


def detection(rows: Rows, scores: Scores, threshold: float) -> Detection:
    """Measure which foreign *rows* lie above *threshold*."""
    missed = rows[scores <= np.float32(threshold)]
    return Detection(
        rows=len(rows),
        share_above=share_above(scores, threshold),
        missed_brightness=float(missed.mean(dtype=np.float64)) if len(missed) else None,
    )
