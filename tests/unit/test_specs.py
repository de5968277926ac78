"""Specs: what a row may look like, and which descriptions of it make no sense."""

import numpy as np
import pytest

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
