"""Specs: what a row may look like, and which descriptions of it make no sense."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from service.specs import ImageSpec, TensorSpec, shape_text

UNIT = (0.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "given", "fits"),
    [
        pytest.param((2,), (2,), True, id="same"),
        pytest.param((2,), (3,), False, id="longer"),
        pytest.param((2,), (2, 1), False, id="one axis more"),
        pytest.param((2,), (), False, id="no axis"),
        pytest.param((1, 2, 3), (1, 2, 3), True, id="item shape"),
        pytest.param((1, 2, 3), (6,), True, id="flat"),
        pytest.param((1, 2, 3), (2, 3), False, id="an axis of one left out"),
        pytest.param((1, 2, 3), (1, 3, 2), False, id="axes swapped"),
        pytest.param((1, 2, 3), (1, 6), False, id="half flat"),
        pytest.param((3, None, None), (3, 5, 7), True, id="free axes"),
        pytest.param((3, None, None), (4, 5, 7), False, id="fixed axis among free ones"),
        pytest.param((3, None, None), (105,), False, id="flat with free axes"),
        pytest.param((3, None, None), (3, 0, 7), False, id="free axis of no length"),
        pytest.param((None,), (0,), False, id="nothing"),
        pytest.param((None,), (1,), True, id="anything"),
    ],
)
def test_a_row_fits_in_item_shape_or_flat(shape, given, fits):
    assert TensorSpec("float32", shape).fits(given) is fits


def test_the_item_shape_alone_can_be_asked_for():
    spec = TensorSpec("float32", (1, 2, 3))

    assert spec.accepts_shape((1, 2, 3))
    assert not spec.accepts_shape((6,))


@pytest.mark.parametrize(
    ("shape", "is_fixed", "size", "text"),
    [
        ((140,), True, 140, "[140]"),
        ((1, 28, 28), True, 784, "[1, 28, 28]"),
        ((3, None, 4), False, 12, "[3, ?, 4]"),
        ((None,), False, 1, "[?]"),
        ((), True, 1, "[]"),
    ],
)
def test_a_shape_knows_its_size_and_its_text(shape, is_fixed, size, text):
    spec = TensorSpec("float32", shape)

    assert (spec.is_fixed, spec.size, shape_text(shape)) == (is_fixed, size, text)


@pytest.mark.parametrize(("low_high", "width"), [(None, 1.0), ((0, 255), 255.0), ((-1, 1), 2.0)])
def test_the_width_of_the_range_is_one_where_there_is_none(low_high, width):
    assert TensorSpec("float32", (2,), low_high).width == width


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "int64"]
)
def test_a_dtype_is_numpys(dtype):
    assert TensorSpec(dtype, (2,)).numpy_dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("layout", "shape", "size"),
    [
        ("CHW", (1, 28, 32), (32, 28)),
        ("HWC", (28, 32, 1), (32, 28)),
        ("HW", (28, 32), (32, 28)),
        ("CHW", (1, None, 32), (32, None)),
        ("HWC", (None, None, 1), (None, None)),
    ],
)
def test_a_picture_has_a_width_and_a_height(layout, shape, size):
    assert ImageSpec("L", layout).size(shape) == size


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_mode_has_its_channels(mode, channels):
    assert ImageSpec(mode).channels == channels


@pytest.mark.parametrize(
    ("shape", "others", "message"),
    [
        pytest.param((0,), {}, "shorter than 1", id="axis of no length"),
        pytest.param((3, -1), {}, r"an axis of \[3, -1\]", id="negative axis"),
        pytest.param((2,), {"range": (1, 0)}, "lower and a higher", id="range upside down"),
        pytest.param((2,), {"range": (1, 1)}, "lower and a higher", id="range of no width"),
        pytest.param((2,), {"range": (float("nan"), 1)}, "lower and a higher", id="NaN"),
        pytest.param((2,), {"range": (0, float("inf"))}, "lower and a higher", id="infinity"),
        pytest.param((2,), {"features": ("a",)}, "1 feature names", id="too few names"),
        pytest.param((2, 1), {"features": ("a", "b")}, "2 feature names", id="two axes"),
        pytest.param((None,), {"features": ("a",)}, "1 feature names", id="free axis with names"),
        pytest.param(
            (28, 28), {"range": UNIT, "image": ImageSpec()}, "does not fit layout", id="no channel"
        ),
        pytest.param(
            (1, 28, 28),
            {"range": UNIT, "image": ImageSpec("L", "HW")},
            "does not fit layout HW",
            id="channel too many",
        ),
        pytest.param(
            (28, 28),
            {"range": UNIT, "image": ImageSpec("RGB", "HW")},
            "no room for colours",
            id="colours without an axis",
        ),
        pytest.param(
            (1, 28, 28),
            {"range": UNIT, "image": ImageSpec("RGB")},
            r"RGB needs 3 channel",
            id="colours in one channel",
        ),
        pytest.param(
            (28, 28, 3),
            {"range": UNIT, "image": ImageSpec("L", "HWC")},
            r"L needs 1 channel",
            id="grey in three channels",
        ),
        pytest.param(
            (None, 28, 28),
            {"range": UNIT, "image": ImageSpec()},
            "needs 1 channel",
            id="free channel",
        ),
        pytest.param((1, 28, 28), {"image": ImageSpec()}, "needs a value range", id="no range"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(shape, others, message):
    with pytest.raises(ValueError, match=message):
        TensorSpec("float32", shape, **others)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 28, 28), ImageSpec("L", "CHW")),
        ((28, 28, 1), ImageSpec("L", "HWC")),
        ((28, 28), ImageSpec("L", "HW")),
        ((3, 28, 28), ImageSpec("RGB", "CHW")),
        ((28, 28, 3), ImageSpec("RGB", "HWC")),
        ((3, None, None), ImageSpec("RGB", "CHW")),
    ],
)
def test_a_picture_is_described_by_mode_and_layout(shape, image):
    assert TensorSpec("float32", shape, UNIT, image).image == image


def test_columns_may_have_names():
    assert TensorSpec("float32", (2,), features=("age", "weight")).features == ("age", "weight")


SINGLE = np.finfo(np.float32)
ODD_SINGLES = [
    *(0.0, -0.0, 0.5, 1.0, -1.0, 255.0, float("nan"), float("inf"), -float("inf")),
    *map(float, (SINGLE.max, SINGLE.min, SINGLE.tiny, SINGLE.smallest_subnormal)),
    *(-float(SINGLE.smallest_subnormal), float(np.nextafter(np.float32(1), np.float32(2)))),
    *(float(np.nextafter(np.float32(255), np.float32(256))), 0.1, float(np.float32(0.1))),
]
RANGES = [(0, 1), (0.0, 1.0), (0, 255), (-1, 1), (0, 0.1), (0.25, 0.5), (-0.0, 1.0), None]
ANY_SINGLE = st.one_of(st.sampled_from(ODD_SINGLES), st.floats(width=32), st.floats(0, 1, width=32))


def holds_plainly(spec, values):
    """The definition: every value is a number that lies within the range, the ends included."""
    low, high = spec.range or (-np.inf, np.inf)
    finite = np.isfinite(values) if values.dtype.kind == "f" else np.full(values.shape, True)
    return bool((finite & (values >= low) & (values <= high)).all())


@settings(max_examples=200)
@given(
    low_high=st.sampled_from(RANGES),
    values=arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=ANY_SINGLE),
)
def test_floats_are_held_by_the_plain_definition(low_high, values):
    spec = TensorSpec("float32", (2,), low_high)

    assert spec.holds(values) is holds_plainly(spec, values)
    assert spec.holds(values.ravel()) is holds_plainly(spec, values)


@settings(max_examples=200)
@given(low_high=st.sampled_from(RANGES), value=ANY_SINGLE, place=st.integers(0, 6))
def test_one_value_is_found_wherever_it_stands(low_high, value, place):
    """Among values that are held, so that it alone decides."""
    spec = TensorSpec("float32", (7,), low_high)
    values = np.full(7, sum(low_high) / 2 if low_high else 0, np.float32)
    values[place] = value

    assert spec.holds(values) is holds_plainly(spec, values)


@pytest.mark.parametrize("value", [-0.0, float(SINGLE.smallest_subnormal), float(SINGLE.tiny)])
@pytest.mark.parametrize("low_high", [(0, 1), None], ids=str)
def test_a_negative_zero_and_the_smallest_numbers_are_numbers(low_high, value):
    assert TensorSpec("float32", (1,), low_high).holds(np.array([value], np.float32))


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF])
@pytest.mark.parametrize("low_high", RANGES, ids=str)
def test_no_kind_of_nan_is_held(low_high, bits):
    values = np.array([0, bits, 0], np.uint32).view(np.float32)

    assert not TensorSpec("float32", (3,), low_high).holds(values)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@given(low_high=st.sampled_from(RANGES), data=st.data())
def test_floats_of_other_widths_are_held_by_the_plain_definition(dtype, low_high, data):
    width = np.dtype(dtype).itemsize * 8
    odd = [value for value in ODD_SINGLES if dtype == "float64" or not 0 < abs(value) < 1e-7]
    with np.errstate(over="ignore"):
        elements = st.one_of(
            st.sampled_from([float(np.dtype(dtype).type(value)) for value in odd]),
            st.floats(width=width),
        )
    values = data.draw(arrays(dtype, array_shapes(max_dims=2, max_side=5), elements=elements))
    spec = TensorSpec(dtype, (2,), low_high)

    assert spec.holds(values) is holds_plainly(spec, values)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
@given(low_high=st.sampled_from([(0, 1), (0, 255), (-1, 1), None]), data=st.data())
def test_integers_are_held_by_the_plain_definition(dtype, low_high, data):
    values = data.draw(arrays(dtype, array_shapes(max_dims=2, max_side=5)))
    spec = TensorSpec(dtype, (2,), low_high)

    assert spec.holds(values) is holds_plainly(spec, values)


@pytest.mark.parametrize("values", [[0.5, 255.0], [0.5, 300.0], [0.5, -1.0], [0.5, float("nan")]])
def test_values_of_another_width_than_the_model_s_are_seen_as_they_are(values):
    spec = TensorSpec("float32", (2,), (0, 255))
    wide = np.array(values, np.float64)

    assert spec.holds(wide) is holds_plainly(spec, wide)


@given(st.lists(ANY_SINGLE, min_size=2, max_size=8), st.integers(2, 3))
@example([0.5, float("nan"), 2.0, 0.5], 2)
def test_values_that_do_not_lie_side_by_side_are_seen_as_they_are(values, step):
    spec = TensorSpec("float32", (2,), (0, 1))
    apart = np.array(values, np.float32)[::step]

    assert spec.holds(apart) is holds_plainly(spec, apart)


def test_errors_are_divided_by_the_range_or_by_a_scale():
    assert TensorSpec("float32", (2,), range=(-1, 3)).width == 4
    assert np.array_equal(TensorSpec("float32", (2,), scale=(0.5, 3)).width, [0.5, 3])
    assert TensorSpec("float32", (2,)).width == 1


@pytest.mark.parametrize(
    ("shape", "others", "message"),
    [
        ((2,), {"scale": (1.0, 2.0), "range": (0.0, 1.0)}, "not by both"),
        ((2,), {"scale": (1.0, 0.0)}, "positive"),
        ((2,), {"scale": (1.0, float("inf"))}, "positive"),
        ((2,), {"scale": (1.0,)}, "1 scales for [2]"),
        ((1, 2), {"scale": (1.0, 2.0)}, "2 scales for [1, 2]"),
    ],
)
def test_a_scale_that_makes_no_sense_is_refused(shape, others, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TensorSpec("float32", shape, **others)
