"""What is measured of a model: errors, its PCA twin's, and what its threshold does.

Scores come in from the graphs that serve: the exported files are the product, and ``service``
holds the one definition of the score.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.scoring.measures import Scores, mean_squared_error

Rows = npt.NDArray[np.float32]

ACTIVE = 1e-3  # a value of a code that is nearer to zero than this counts as zero


def mean(scores: Scores) -> float:
    """Mean over the rows, summed in double precision."""
    return float(scores.mean(dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Pca:
    """The best that a linear autoencoder can do.

    Attributes:
        middle: Mean of the rows it was fitted on, flat.
        basis: Principal directions, ``(components, features)``.
    """

    middle: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]

    def reconstruct(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Project *rows* and come back; flat."""
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        projected: npt.NDArray[np.float64] = (flat - self.middle) @ self.basis.T @ self.basis
        return projected + self.middle

    def mse(self, rows: Rows) -> float:
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        return mean(mean_squared_error(flat, self.reconstruct(rows)))


def fit_pca(rows: Rows, *, components: int) -> Pca:
    """Fit principal components, as many as the code of the model beside it has values."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    # of the covariance, which has features x features numbers however many rows there are
    _, _, directions = np.linalg.svd(np.cov(flat, rowvar=False))
    return Pca(flat.mean(axis=0), directions[:components])


def distances_along_components(known: Rows, rows: Rows) -> Scores:
    """Give squared distances from the mean along all components of *known*, over the variances.

    Args:
        known: Normal rows; columns in which they do not differ are left out.
        rows: What is scored.
    """
    moving = known.std(axis=0) > 0
    learned, judged = known[:, moving].astype(np.float64), rows[:, moving].astype(np.float64)
    inverse = np.linalg.inv(np.cov(learned, rowvar=False))
    centred = judged - learned.mean(axis=0)
    scores: Scores = np.einsum("ij,jk,ik->i", centred, inverse, centred).astype(np.float32)
    return scores


def share_above(scores: Scores, threshold: float) -> float:
    """Share of rows that count as anomalous, as ``service.scoring.verdicts`` decides it."""
    return float((scores > np.float32(threshold)).mean())


def share_active(codes: Rows) -> float:
    """Share of all values of *codes* that are not (nearly) zero."""
    return float((np.abs(codes) > ACTIVE).mean())


def psnr(clean: Rows, given: Rows) -> float:
    """Peak signal-to-noise ratio in decibels, of values in [0, 1]: the mean over the pictures."""
    return mean(-10 * np.log10(mean_squared_error(clean, given)))


def psnr_of_mean_error(clean: Rows, given: Rows) -> float:
    """The same of all pictures as if they were one; a few bad pictures weigh more than above."""
    return float(-10 * np.log10(mean(mean_squared_error(clean, given))))


def with_noise(rows: Rows, deviation: float, *, seed: int) -> Rows:
    """Add Gaussian noise and clip to [0, 1], as training does."""
    noise = np.random.default_rng(seed).standard_normal(rows.shape, dtype=np.float32)
    return np.clip(rows + np.float32(deviation) * noise, 0, 1)


def median_filtered(rows: Rows) -> Rows:
    """Median of the 3x3 pixels around each, what one would do without a model."""
    padded = np.pad(rows, [(0, 0)] * (rows.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(-2, -1))
    filtered: Rows = np.median(windows, axis=(-2, -1)).astype(np.float32)
    return filtered


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
