"""Structural similarity: whether a picture's structure is there, whatever its brightness.

Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
Similarity", IEEE Transactions on Image Processing 13(4), 2004:

    SSIM = (2 mx my + C1) (2 sxy + C2) / ((mx^2 + my^2 + C1) (sx^2 + sy^2 + C2))

with means, variances and covariance under a Gaussian window of 11 pixels and deviation 1.5, at
every place where the whole window lies in the picture; C1 = 0.01^2, C2 = 0.03^2 for values in 0..1.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from service.scoring.measures import Scores
from service.specs import ImageSpec, Rows

SSIM: Final = "ssim"

WINDOW: Final = 11
DEVIATION: Final = 1.5
C1: Final = 0.01**2
C2: Final = 0.03**2

Planes = npt.NDArray[np.float64]


def structural_dissimilarity(
    x: Rows, reconstruction: Rows, *, image: ImageSpec, limits: tuple[float, float] = (0.0, 1.0)
) -> Scores:
    """Score each picture by 1 - mean SSIM, the mean over all places and colours.

    Where a side is shorter than 11 pixels the window is the longest odd number of pixels that
    fits into it, with the same deviation.

    Args:
        x: Pictures.
        reconstruction: The model's answer, same shape.
        image: How a picture lies in a row.
        limits: Lowest and highest value of the range.

    Returns:
        One score a row, from 0 (the same picture) to 2.
    """
    ours, theirs = _planes(x, image, limits), _planes(reconstruction, image, limits)
    mean_ours, mean_theirs = _blur(ours), _blur(theirs)
    product = mean_ours * mean_theirs
    squares = mean_ours**2 + mean_theirs**2
    covariance = _blur(ours * theirs) - product
    variances = _blur(ours**2) + _blur(theirs**2) - squares
    similarity = ((2 * product + C1) * (2 * covariance + C2)) / ((squares + C1) * (variances + C2))
    means = np.ascontiguousarray(similarity.reshape(len(similarity), -1)).mean(axis=1)
    # two equal pictures differ by rounding alone, which must not become a negative score
    scores: Scores = np.maximum(1.0 - means, 0.0).astype(np.float32)
    return scores


def _planes(pictures: Rows, image: ImageSpec, limits: tuple[float, float]) -> Planes:
    """Bring pictures into 0..1 and their colours in front: ``(rows, colours, height, width)``."""
    low, high = limits
    values = (pictures.astype(np.float64) - low) / (high - low)
    match image.layout:
        case "CHW":
            return values
        case "HWC":
            return np.moveaxis(values, -1, 1)
        case "HW":
            return values[:, np.newaxis]


def _blur(planes: Planes) -> Planes:
    return _blur_axis(_blur_axis(planes, 2), 3)


def _blur_axis(planes: Planes, axis: int) -> Planes:
    """Average along one axis under the window, element by element: no row sees another."""
    weights = _weights(planes.shape[axis])
    places = planes.shape[axis] - len(weights) + 1
    head = (slice(None),) * axis
    blurred = np.zeros_like(planes[(*head, slice(places))])
    for start, weight in enumerate(weights):
        blurred += weight * planes[(*head, slice(start, start + places))]
    return blurred


def _weights(side: int) -> npt.NDArray[np.float64]:
    window = min(WINDOW, side if side % 2 else side - 1)
    distances = np.arange(window) - window // 2
    weights: npt.NDArray[np.float64] = np.exp(-(distances**2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    return weights
