"""How far a reconstruction is from its input. One definition each; high is abnormal, always.

The difference is divided by the width of the declared value range, so a score does not
depend on whether a pixel is written as 0..1 or as 0..255; or, where features have units of their
own, by the scale of each. Here stand the measures that compare features one by one; others need
neighbouring pixels (``similarity``), inner layers (``rapp``) or the code (``codes``). ``catalogue``
lists them all.

Every sum runs along a row that lies in one piece of memory, so the bits of a row's score do not
depend on the rows beside it.
"""

from functools import lru_cache
from math import ceil
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from service.specs import Rows, Width

Scores: TypeAlias = npt.NDArray[np.float32]
"""One score a row, shape ``(rows,)``."""

MSE = "mse"
MAE: Final = "mae"
BCE: Final = "bce"
MAX: Final = "max"
TOP_K: Final = "top_k"

DEFAULT_TOP_SHARE: Final = 0.01

# how near to 0 and 1 the cross-entropy looks: a feature that is wrong from end to end costs 13.9
# nats instead of infinity; a power of two, so that float32 holds the distance to 1 exactly, too
BCE_MARGIN: Final = np.float32(2**-20)


@lru_cache(maxsize=256)
def as_score(number: float) -> np.float32:
    """Give the score nearest to *number*; infinity, which is above all scores, beyond them."""
    with np.errstate(over="ignore"):
        return np.float32(number)


def differences(x: Rows, reconstruction: Rows, *, width: Width = 1.0) -> npt.NDArray[Any]:
    """Give *x* minus *reconstruction* in units of *width*, float32, in the shape of *x*."""
    difference = x.astype(np.float32) - reconstruction.astype(np.float32)
    if np.ndim(width) or width != 1.0:
        difference /= np.asarray(width, np.float32)
    return difference


def feature_errors(x: Rows, reconstruction: Rows, *, width: Width = 1.0) -> npt.NDArray[Any]:
    """Give the squared error of every feature, float32, in the shape of *x*.

    The mean over a row is its ``mse`` score; a heat map shows these values.
    """
    difference = differences(x, reconstruction, width=width)
    np.square(difference, out=difference)
    return difference


def mean_squared_error(x: Rows, reconstruction: Rows, *, width: Width = 1.0) -> Scores:
    """Score each row by its mean squared reconstruction error.

    The mean runs over every axis but the first, so a score does not grow with the size of
    the input. ``service.inference.graphs`` writes the same formula as ONNX nodes; the two
    agree to 1e-6 relative, and a server uses one of them for all answers of a model.

    Args:
        x: The rows as the client sent them, shape ``(rows, *features)``.
        reconstruction: The model's answer, same shape as *x*.
        width: What differences are divided by, see *TensorSpec.width*.

    Returns:
        One score a row, shape ``(rows,)``; zero means a perfect reconstruction.
    """
    return row_means(feature_errors(x, reconstruction, width=width))


def mean_absolute_error(x: Rows, reconstruction: Rows, *, width: Width = 1.0) -> Scores:
    """Score each row by its mean absolute error: one wrong feature weighs less than in ``mse``."""
    return row_means(np.abs(differences(x, reconstruction, width=width)))


def largest_error(x: Rows, reconstruction: Rows, *, width: Width = 1.0) -> Scores:
    """Score each row by the largest absolute error of its features, in units of *width*."""
    largest: Scores = flat(np.abs(differences(x, reconstruction, width=width))).max(axis=1)
    return largest


def top_mean_error(
    x: Rows, reconstruction: Rows, *, width: Width = 1.0, share: float = DEFAULT_TOP_SHARE
) -> Scores:
    """Score each row by the mean squared error of its worst features.

    A small fault in a large picture drowns in the mean over all pixels, and the largest error
    alone is noise; between them lies the mean of the worst ceil(share * features) errors.

    Args:
        x: The rows.
        reconstruction: The model's answer, same shape.
        width: What differences are divided by.
        share: Of the features, in (0, 1]; 1 gives ``mse``.
    """
    errors = flat(feature_errors(x, reconstruction, width=width))
    count = ceil(share * errors.shape[1])
    worst = np.partition(errors, errors.shape[1] - count, axis=1)[:, -count:]
    # a partition leaves them in any order, and sums of floats depend on it
    return row_means(np.sort(worst, axis=1))


def excess_cross_entropy(
    x: Rows, reconstruction: Rows, *, limits: tuple[float, float] = (0.0, 1.0)
) -> Scores:
    """Score each row by its mean binary cross-entropy above that of a perfect copy.

    BCE(u, v) - BCE(u, u) = u log(u / v) + (1 - u) log((1 - u) / (1 - v)), the Kullback-Leibler
    divergence between two coins, with both values brought into [0, 1] by *limits* (lowest and
    highest value of the range). The cross-entropy of a grey pixel with itself is not zero and
    would make a perfect copy of a grey picture look worse than a bad copy of a black one.
    """
    ours, theirs = _as_share(x, limits), _as_share(reconstruction, limits)
    one = np.float32(1)
    divergence = ours * np.log(ours / theirs) + (one - ours) * np.log((one - ours) / (one - theirs))
    # never below zero but for rounding
    return row_means(np.maximum(divergence, np.float32(0)))


def _as_share(values: Rows, limits: tuple[float, float]) -> npt.NDArray[np.float32]:
    low, high = limits
    share = (values.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    clipped: npt.NDArray[np.float32] = np.clip(share, BCE_MARGIN, np.float32(1) - BCE_MARGIN)
    return clipped


def flat(values: Rows) -> Rows:
    """Bring all axes but the batch into one, each row in one piece of memory."""
    return np.ascontiguousarray(values.reshape(len(values), -1))


def row_means(values: Rows) -> Scores:
    """Average over all axes but the batch, in float32."""
    means: Scores = flat(values).mean(axis=1, dtype=np.float32)
    return means
