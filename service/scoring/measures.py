"""How far a reconstruction is from its input. One definition each; high is abnormal, always.

The difference is divided by the width of the declared value range, so a score does not
depend on whether a pixel is written as 0..1 or as 0..255; or, where features have units of their
own, by the scale of each.
"""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from service.specs import Rows, Width

Scores: TypeAlias = npt.NDArray[np.float32]
"""One score a row, shape ``(rows,)``."""

MSE = "mse"


@lru_cache(maxsize=256)
def as_score(number: float) -> np.float32:
    """Give the score nearest to *number*; infinity, which is above all scores, beyond them."""
    with np.errstate(over="ignore"):
        return np.float32(number)


def feature_errors(x: Rows, reconstruction: Rows, *, width: Width = 1.0) -> npt.NDArray[Any]:
    """Give the squared error of every feature, float32, in the shape of *x*.

    The mean over a row is its ``mse`` score; a heat map shows these values.
    """
    difference = x.astype(np.float32) - reconstruction.astype(np.float32)
    if np.ndim(width) or width != 1.0:
        difference /= np.asarray(width, np.float32)
    return np.square(difference, out=difference)


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
    errors = feature_errors(x, reconstruction, width=width)
    scores: Scores = errors.reshape(len(errors), -1).mean(axis=1, dtype=np.float32)
    return scores
