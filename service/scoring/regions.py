"""Where in a picture the error is: boxes around connected places that lie over a threshold."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.specs import ImageSpec

Mask = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]

# a place and half of its eight neighbours; the other half are met from their own side
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region of a picture, by the box around it.

    Attributes:
        top: First line of the box.
        left: First column.
        height: Lines.
        width: Columns.
        pixels: Places in the region itself.
        error: Mean error of its places, the colours of a place averaged.
        share: Its part of the error of the whole picture.
    """

    top: int
    left: int
    height: int
    width: int
    pixels: int
    error: float
    share: float


def regions(
    errors: npt.NDArray[np.float32], *, image: ImageSpec, threshold: float, most: int | None = None
) -> list[Region]:
    """Box the connected regions of one picture whose errors lie above *threshold*.

    Places touch by side or corner (8-connectivity): a slanted scratch is one region.

    Args:
        errors: Feature errors of one row.
        image: How a picture lies in a row; the errors of its colours are averaged.
        threshold: In the unit of *errors*; the error that one feature in a thousand of normal
            rows reaches (*Calibration.heat_map_high*), say.
        most: How many to give, or all.

    Returns:
        The largest share of the error first; of equal ones, the one whose box begins higher, then
        further left.
    """
    plane = _plane(errors, image)
    labels, count = connected(plane > threshold)
    lines, columns = np.nonzero(labels)
    which = labels[lines, columns] - 1
    sums = np.bincount(which, weights=plane[lines, columns], minlength=count)
    top, bottom = _ends(which, lines, count)
    left, right = _ends(which, columns, count)
    pixels = np.bincount(which, minlength=count)
    total = float(plane.sum())
    # the last key counts first
    order = np.lexsort([left, top, -sums])
    return [
        Region(
            top=int(top[one]),
            left=int(left[one]),
            height=int(bottom[one] - top[one] + 1),
            width=int(right[one] - left[one] + 1),
            pixels=int(pixels[one]),
            error=float(sums[one] / pixels[one]),
            share=float(sums[one] / total),
        )
        for one in order[:most]
    ]


def connected(mask: Mask) -> tuple[Ids, int]:
    """Number the connected regions of *mask*, 1, 2, ... in reading order of their first places.

    Returns:
        The region of each place, 0 where *mask* is not set; and how many regions there are.
    """
    count = int(mask.sum())
    places = np.full(mask.shape, -1, np.int64)
    places[mask] = np.arange(count)
    first, second = _touching(places)
    roots = _join(count, first, second)
    numbers, inverse = np.unique(roots, return_inverse=True)
    labels = np.zeros(mask.shape, np.int64)
    labels[mask] = inverse + 1
    return labels, len(numbers)


def _join(count: int, first: Ids, second: Ids) -> Ids:
    """Give each of *count* places the lowest place that pairs of neighbours connect it with.

    Every place points at a lower one of its region, at last all at the lowest: each round ties
    the roots of neighbours together and lets everybody point at his root.
    """
    root = np.arange(count)
    while True:
        low, high = np.sort([root[first], root[second]], axis=0)
        apart = low != high
        if not apart.any():
            return root
        np.minimum.at(root, high[apart], low[apart])
        while (root != root[root]).any():
            root = root[root]


def _touching(places: Ids) -> tuple[Ids, Ids]:
    """List the pairs of set places that touch."""
    height, width = places.shape
    pairs = []
    for down, right in _STEPS:
        here = places[: height - down, max(-right, 0) : width - max(right, 0)]
        there = places[down:, max(right, 0) : width + min(right, 0)]
        both = (here >= 0) & (there >= 0)
        pairs.append((here[both], there[both]))
    first, second = zip(*pairs, strict=True)
    return np.concatenate(first), np.concatenate(second)


def _plane(errors: npt.NDArray[np.float32], image: ImageSpec) -> npt.NDArray[np.float64]:
    values = errors.astype(np.float64)
    if image.layout == "HW":
        return values
    plane: npt.NDArray[np.float64] = values.mean(axis=image.layout.index("C"))
    return plane


def _ends(which: Ids, places: Ids, count: int) -> tuple[Ids, Ids]:
    """Give the lowest and the highest place of each of *count* regions."""
    low = np.full(count, np.iinfo(np.int64).max)
    high = np.zeros(count, np.int64)
    np.minimum.at(low, which, places)
    np.maximum.at(high, which, places)
    return low, high
