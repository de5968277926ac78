"""What one row of a tensor looks like: dtype, shape, value range, picture layout.

The batch axis is never part of a shape here. ``None`` stands for a free axis.
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite, prod
from struct import Struct
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[Any]
"""An array whose first axis is the batch."""

Width: TypeAlias = float | npt.NDArray[np.float32]
"""What errors are divided by: one number, or one for each feature, shape ``(features,)``."""

DType: TypeAlias = Literal["float16", "float32", "float64", "uint8", "int8", "int32", "int64"]
Shape: TypeAlias = tuple[int | None, ...]

FORBID_UNKNOWN_FIELDS = {"extra": "forbid"}  # read by pydantic when the class is part of a manifest


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How a picture lies in a row.

    Attributes:
        mode: ``L`` is one grey channel, ``RGB`` three colours.
        layout: The order of the axes: channels first, channels last, or none (grey only).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_FIELDS

    mode: Literal["L", "RGB"] = "L"
    layout: Literal["CHW", "HWC", "HW"] = "CHW"

    @property
    def channels(self) -> int:
        return 1 if self.mode == "L" else 3

    def size(self, shape: Shape) -> tuple[int | None, int | None]:
        """Width and height of a picture in a row of *shape*; ``None`` where they are free."""
        height, width = shape[1:] if self.layout == "CHW" else shape[:2]
        return width, height


@dataclass(frozen=True)  # without slots: what requests ask again and again is worked out once
class TensorSpec:
    """One tensor of a model, without its batch axis.

    Attributes:
        dtype: NumPy's name of the element type.
        shape: Length of each axis, ``None`` where any length does.
        range: Lowest and highest value that makes sense, where the model has such limits.
        image: How to read a row as a picture, for picture models.
        features: Names of the columns, for tabular models with one axis.
        scale: What one unit of error is, for each feature of a row with one axis whose
            values have no common range; their standard deviations, say.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_FIELDS

    dtype: DType
    shape: Shape
    range: tuple[float, float] | None = None
    image: ImageSpec | None = None
    features: tuple[str, ...] | None = None
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if any(axis is not None and axis < 1 for axis in self.shape):
            raise ValueError(f"an axis of {shape_text(self.shape)} is shorter than 1")
        if self.range is not None and not (
            self.range[0] < self.range[1] and all(map(isfinite, self.range))
        ):
            raise ValueError("range must be a lower and a higher number")
        if self.features is not None and self.shape != (len(self.features),):
            raise ValueError(f"{len(self.features)} feature names for {shape_text(self.shape)}")
        if self.image is not None:
            self._check_image(self.image)
        if self.scale is not None:
            self._check_scale(self.scale)

    def _check_image(self, image: ImageSpec) -> None:
        if len(self.shape) != len(image.layout):
            raise ValueError(f"shape {shape_text(self.shape)} does not fit layout {image.layout}")
        if image.layout == "HW" and image.mode != "L":
            raise ValueError("layout HW has no room for colours")
        if "C" in image.layout and self.shape[image.layout.index("C")] != image.channels:
            raise ValueError(f"mode {image.mode} needs {image.channels} channel(s)")
        if self.range is None:
            raise ValueError("a picture needs a value range")

    def _check_scale(self, scale: tuple[float, ...]) -> None:
        if self.range is not None:
            raise ValueError("errors are divided by the range or by a scale, not by both")
        if not all(isfinite(each) and each > 0 for each in scale):
            raise ValueError("scale must be positive numbers")
        if self.shape != (len(scale),):
            raise ValueError(f"{len(scale)} scales for {shape_text(self.shape)}")

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @cached_property
    def is_fixed(self) -> bool:
        """Whether every axis has a known length."""
        return None not in self.shape

    @cached_property
    def size(self) -> int:
        """Elements in a row of a fixed shape."""
        return prod(axis for axis in self.shape if axis is not None)

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a row of a fixed shape."""
        return self.size * self.numpy_dtype.itemsize

    @cached_property
    def wire_dtype(self) -> np.dtype[Any]:
        """The element type as it goes over the wire without a header: little-endian."""
        return self.numpy_dtype.newbyteorder("<")

    @cached_property
    def packer(self) -> Struct:
        """Packs the numbers of a row of a fixed shape, as *wire_dtype* has them."""
        # NumPy's letter for int64 depends on the platform
        letter = "q" if self.dtype == "int64" else self.numpy_dtype.char
        return Struct(f"<{self.size}{letter}")

    @cached_property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of a row, where it is fixed."""
        return tuple(axis for axis in self.shape if axis is not None)

    @cached_property
    def width(self) -> Width:
        """What errors are divided by: the scale, or the width of the value range, or 1."""
        if self.scale is not None:
            return np.array(self.scale, np.float32)
        return self.range[1] - self.range[0] if self.range else 1.0

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value that a row may hold: the range, or what is finite."""
        low, high = self.range or (float("-inf"), float("inf"))
        if self.numpy_dtype.kind != "f":
            return low, high
        finite = np.finfo(self.numpy_dtype)
        return max(low, float(finite.min)), min(high, float(finite.max))

    def holds(self, values: Rows) -> bool:
        """Whether all *values*, of which there are some, lie within the limits; NaN does not."""
        low, high = self.limits
        if self._highest_bits is not None and values.dtype == np.float32 and values.ndim == 1:
            # one pass instead of two, and by far most rows are right: the bits of floats that
            # are not negative are in their order, and those of NaN and negative ones lie above
            bits = values.view(np.uint32)
            if bits[bits.argmax()] <= self._highest_bits:
                return True
        # NaN comes through both, and fails both comparisons
        return bool(
            low <= np.minimum.reduce(values, axis=None)
            and np.maximum.reduce(values, axis=None) <= high
        )

    @cached_property
    def _highest_bits(self) -> np.uint32 | None:
        """The bits of the upper limit, where the limits are those of float32 from zero on."""
        low, high = self.limits
        if self.dtype != "float32" or low != 0:
            return None
        return np.float32(high).view(np.uint32)

    def accepts_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether *shape*, without its batch axis, is one of this tensor's."""
        return len(shape) == len(self.shape) and all(
            length > 0 and axis in {None, length}
            for axis, length in zip(self.shape, shape, strict=True)
        )

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Like *accepts_shape*, but a row of a fixed shape may also come flat."""
        return self.accepts_shape(shape) or (self.is_fixed and shape == (self.size,))


def shape_text(shape: Shape) -> str:
    """Write a row shape for messages and headers of people: ``[3, ?, ?]``."""
    return "[" + ", ".join("?" if axis is None else str(axis) for axis in shape) + "]"
