"""What the person who imports a model says of it, and the rows to try it with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np

from service.errors import ConfigurationError, QuestionError
from service.inference.foreign import Value
from service.inference.scaling import Constant, Scaling
from service.specs import DType, ImageSpec, Rows, Shape, TensorSpec, shape_text

SEED: Final = 0

# lengths of free axes that are tried, until the graph runs with one
LENGTHS: Final = (64, 32, 128, 224, 16)

_COLOURS: Final = {1: "L", 3: "RGB"}
_PICTURE_AXES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The options of the command; ``None`` where nothing was said.

    Attributes:
        files: Files of which it was not said what they are.
        row_shape: Overrides what the file says of a row.
        layers: Inner tensors by the name that they are to have.
        rows: Rows as a client would send them.
    """

    name: str
    models: Path
    version: int | None = None
    files: Sequence[Path] = ()
    encoder: Path | None = None
    decoder: Path | None = None
    title: str | None = None
    description: str = ""
    licence: str | None = None
    value_range: tuple[float, float] | None = None
    mean: Constant | None = None
    standard_deviation: Constant | None = None
    features: tuple[str, ...] | None = None
    image: Literal["L", "RGB"] | None = None
    layout: Literal["CHW", "HWC", "HW"] | None = None
    row_shape: Shape | None = None
    code: str | None = None
    has_no_code: bool = False
    code_output: str | None = None
    output: str | None = None
    output_kind: str = "reconstruction"
    layers: Mapping[str, str] = field(default_factory=dict)
    rows: Rows | None = None

    @property
    def reconstructs(self) -> bool:
        return self.output_kind == "reconstruction"


def input_spec(value: Value, wishes: Wishes) -> TensorSpec:
    """Describe a row of the input by what the file declares and what was said.

    Raises:
        QuestionError: Something must be said.
        ConfigurationError: What was said does not fit.
    """
    if value.dtype not in get_args(DType):
        raise ConfigurationError(
            f"the input {value.name} is {value.dtype}; rows can be {', '.join(get_args(DType))}"
        )
    _check_scaling(wishes)
    shape = row_shape(value, wishes)
    image = _image(shape, wishes)
    if image is not None and wishes.value_range is None:
        raise QuestionError("a picture needs the range of its values: --range 0,1, say")
    try:
        return TensorSpec(
            value.dtype,  # type: ignore[arg-type]
            shape,
            wishes.value_range,
            image,
            wishes.features,
            _scale(shape, wishes),
        )
    except ValueError as error:
        raise ConfigurationError(f"the input does not fit what was said of it: {error}") from error


def row_shape(value: Value, wishes: Wishes) -> Shape:
    """What a row of the input is like, free axes as ``None``."""
    if wishes.row_shape is not None:
        _check_shape(wishes.row_shape, value)
        return wishes.row_shape
    if value.axes is None:
        raise QuestionError(
            f"the file does not say what a row of {value.name} is like; say it with --shape,"
            " for example --shape 30 or --shape 3,64,64 (? where any length will do)"
        )
    if not value.axes:
        raise ConfigurationError(f"the input {value.name} is a single number without a batch axis")
    return tuple(axis if isinstance(axis, int) else None for axis in value.axes[1:])


def _check_shape(said: Shape, value: Value) -> None:
    if value.axes is None:
        return
    found = tuple(axis if isinstance(axis, int) else None for axis in value.axes[1:])
    fits = len(found) == len(said) and all(
        axis in {None, wanted} for axis, wanted in zip(found, said, strict=True)
    )
    if not fits:
        raise ConfigurationError(
            f"--shape says {shape_text(said)}, and a row of {value.name} is {shape_text(found)}"
        )


def _image(shape: Shape, wishes: Wishes) -> ImageSpec | None:
    if wishes.image is None:
        return None
    return ImageSpec(wishes.image, wishes.layout or _layout(shape, wishes.image))


def _layout(shape: Shape, mode: str) -> Literal["CHW", "HWC", "HW"]:
    channels = {name: count for count, name in _COLOURS.items()}[mode]
    if len(shape) == _PICTURE_AXES - 1 and mode == "L":
        return "HW"
    if len(shape) != _PICTURE_AXES:
        raise ConfigurationError(f"a row of {shape_text(shape)} is no picture of mode {mode}")
    first, last = shape[0] == channels, shape[-1] == channels
    if first != last:
        return "CHW" if first else "HWC"
    if not first and None not in (shape[0], shape[-1]):
        raise ConfigurationError(
            f"mode {mode} needs {channels} channel(s), and a row is {shape_text(shape)}"
        )
    raise QuestionError(
        f"a row of {shape_text(shape)} may have its channels first or last: --layout CHW or HWC"
    )


def _scale(shape: Shape, wishes: Wishes) -> tuple[float, ...] | None:
    """For a table the unit of each feature's error is its standard deviation."""
    is_table = len(shape) == 1 and shape[0] is not None
    if wishes.standard_deviation is None or wishes.value_range is not None or not is_table:
        return None
    deviations = np.ravel(wishes.standard_deviation)
    if len(deviations) not in {1, shape[0]}:
        return None  # make_scaling says why
    return tuple(float(each) for each in np.broadcast_to(deviations, (shape[0] or 1,)))


def make_scaling(spec: TensorSpec, wishes: Wishes) -> Scaling | None:
    """Bring mean and standard deviation to the shape that a row needs.

    Raises:
        ConfigurationError: They do not fit a row, or are no scaling.
    """
    if wishes.mean is None and wishes.standard_deviation is None:
        return None
    if spec.numpy_dtype.kind != "f":
        raise ConfigurationError(f"rows of {spec.dtype} cannot be scaled with --mean and --std")
    nothing, one = np.zeros(()), np.ones(())
    mean = _fitted("mean", nothing if wishes.mean is None else wishes.mean, spec, wishes)
    given = one if wishes.standard_deviation is None else wishes.standard_deviation
    deviation = _fitted("std", given, spec, wishes)
    return Scaling(mean, deviation)


def _check_scaling(wishes: Wishes) -> None:
    """See that mean and standard deviation are numbers that one can scale with."""
    if wishes.mean is not None and not np.isfinite(wishes.mean).all():
        raise ConfigurationError("--mean holds a number that is not finite")
    given = wishes.standard_deviation
    if given is None:
        return
    bad = np.flatnonzero(~(np.isfinite(given) & (given > 0)))
    if len(bad):
        raise ConfigurationError(
            f"--std must be above zero, and number {bad[0] + 1} is not; a feature that never"
            " changes takes 1"
        )


def _fitted(option: str, value: Constant, spec: TensorSpec, wishes: Wishes) -> Constant:
    layout = spec.image.layout if spec.image else wishes.layout
    channels = {"CHW": (-1, 1, 1), "HWC": (1, 1, -1)}
    if value.ndim == 1 and len(value) > 1 and len(spec.shape) == _PICTURE_AXES:
        if layout not in channels:
            raise QuestionError(
                f"--{option} has {len(value)} numbers: say with --layout CHW or HWC which axis"
                " they belong to"
            )
        value = value.reshape(channels[layout])
    made = value.reshape(()) if value.size == 1 else value
    lengths = [1 if axis is None else axis for axis in spec.shape]
    try:
        fits = np.broadcast_shapes(made.shape, tuple(lengths)) == tuple(lengths)
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(
            f"--{option} has shape {list(value.shape)}, a row {shape_text(spec.shape)}"
        )
    return made


def trial_rows(spec: TensorSpec, wishes: Wishes, count: int, length: int) -> Rows:
    """Give *count* rows as a client would send them.

    They are those that were handed over, again from the first where they are too few, or random
    ones with a fixed seed: of the range, else of the normal distribution.

    Args:
        spec: What a row is like.
        wishes: May hold rows.
        count: How many.
        length: Of free axes.
    """
    if wishes.rows is not None:
        given = _checked(wishes.rows, spec)
        return given[np.arange(count) % len(given)]
    shape = (count, *(length if axis is None else axis for axis in spec.shape))
    if prod(shape) > _ROW_VALUES_MAX * count:
        raise ConfigurationError(f"a row of {shape_text(spec.shape)} is too large to be tried")
    return _drawn(spec, shape, wishes)


_ROW_VALUES_MAX: Final = 1 << 26


def _drawn(spec: TensorSpec, shape: tuple[int, ...], wishes: Wishes) -> Rows:
    random = np.random.default_rng(SEED)
    limits = spec.range
    if limits is None and spec.dtype == "uint8":
        limits = (0.0, 255.0)
    if limits is not None:
        drawn = random.uniform(*limits, shape)
        return (drawn if spec.numpy_dtype.kind == "f" else np.rint(drawn)).astype(spec.dtype)
    if spec.numpy_dtype.kind != "f":
        raise QuestionError(
            f"rows are whole numbers ({spec.dtype}): say which with --range LOW,HIGH, or hand some"
            " over with --rows FILE.npy"
        )
    drawn = random.standard_normal(shape)
    scaling = make_scaling(spec, wishes)
    if scaling is not None:
        drawn = scaling.restored(drawn)
    return drawn.astype(spec.dtype)


def _checked(rows: Rows, spec: TensorSpec) -> Rows:
    if rows.ndim == 0 or not len(rows):
        raise ConfigurationError("--rows holds no rows")
    if not spec.accepts_shape(rows.shape[1:]):
        raise ConfigurationError(
            f"--rows has rows of {list(rows.shape[1:])}, the model takes {shape_text(spec.shape)}"
        )
    made = rows.astype(spec.dtype)
    if rows.dtype.kind not in "fiub" or not np.array_equal(made.astype(rows.dtype), rows):
        same_kind = rows.dtype.kind == "f" == spec.numpy_dtype.kind
        if not same_kind:
            raise ConfigurationError(f"--rows is {rows.dtype}, the model takes {spec.dtype}")
    if spec.numpy_dtype.kind == "f" and not np.isfinite(made).all():
        raise ConfigurationError("--rows holds a number that is not finite")
    if spec.range is not None and not spec.holds(made):
        raise ConfigurationError("--rows holds values outside --range")
    return made
