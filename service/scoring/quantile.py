"""A quantile of more numbers than there is memory for."""

from typing import Final

import numpy as np
import numpy.typing as npt

# 32 MiB of float32: rows of 784 features up to 10,699
EXACT_MAX: Final = 1 << 23

# of a float32's 32 bits these are dropped: a bin is 2**-11 of its values wide, 0.05 %
_DROPPED_BITS: Final = 12
_BINS: Final = 1 << (31 - _DROPPED_BITS)


class Quantile:
    """The quantile of numbers that come in pieces and are not negative.

    Exact, with the bits of ``np.quantile``, for up to *exact_max* numbers. Of more the numbers
    are counted in bins, by the upper bits of each float32: then the quantile is the upper end of
    its bin, which is not below the true one and at most 0.05 % above it. 4 MiB, however many.

    Args:
        share: Of the numbers that are to lie below.
        exact_max: Numbers that are kept.
    """

    def __init__(self, share: float, *, exact_max: int = EXACT_MAX) -> None:
        self._share = share
        self._exact_max = exact_max
        self._kept: list[npt.NDArray[np.float32]] = []
        self._counts: npt.NDArray[np.int64] | None = None
        self.numbers = 0

    @property
    def is_exact(self) -> bool:
        return self._counts is None

    def take(self, numbers: npt.NDArray[np.float32]) -> None:
        """Take some more."""
        flat = numbers.reshape(-1)
        self.numbers += flat.size
        if self._counts is None and self.numbers <= self._exact_max:
            self._kept.append(flat.copy())
            return
        if self._counts is None:
            self._counts = np.zeros(_BINS, np.int64)
            for kept in self._kept:
                self._count(kept)
            self._kept.clear()
        self._count(flat)

    def value(self) -> np.float32:
        """Give the quantile of all that were taken, of which there are some."""
        if self._counts is None:
            return np.float32(np.quantile(np.concatenate(self._kept), self._share))
        rank = int(np.ceil(self._share * (self.numbers - 1)))
        found = int(np.searchsorted(np.cumsum(self._counts), rank, side="right"))
        # the bits just below those of the next bin
        bits = np.uint32((found << _DROPPED_BITS) | ((1 << _DROPPED_BITS) - 1))
        return bits.view(np.float32)

    def _count(self, numbers: npt.NDArray[np.float32]) -> None:
        """Floats that are not negative are in the order of their bits."""
        if self._counts is None:
            raise AssertionError("there are no bins yet")
        bins = np.ascontiguousarray(numbers).view(np.uint32) >> np.uint32(_DROPPED_BITS)
        self._counts += np.bincount(bins, minlength=_BINS)
