"""Regions: boxes by hand, and labels against a flood fill."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from service.scoring.regions import Region, connected, regions
from service.specs import ImageSpec

GREY = ImageSpec("L", "HW")


def drawn(*lines):
    """Turn lines of digits into errors."""
    return np.array([[int(letter) for letter in line] for line in lines], np.float32)


def flooded(mask):
    """Number regions by walking from place to place, in reading order."""
    labels, number = np.zeros(mask.shape, int), 0
    for first in zip(*np.nonzero(mask), strict=True):
        if labels[first]:
            continue
        number += 1
        waiting = [first]
        while waiting:
            line, column = waiting.pop()
            if labels[line, column]:
                continue
            labels[line, column] = number
            waiting += [
                (down, right)
                for down in range(max(line - 1, 0), min(line + 2, mask.shape[0]))
                for right in range(max(column - 1, 0), min(column + 2, mask.shape[1]))
                if mask[down, right]
            ]
    return labels, number


@settings(max_examples=150)
@given(
    mask=st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
        lambda shape: arrays(np.bool_, shape)
    )
)
def test_labels_are_those_of_a_flood_fill(mask):
    labels, count = connected(mask)

    expected, expected_count = flooded(mask)
    assert count == expected_count
    assert labels.tolist() == expected.tolist()


def test_a_long_snake_is_one_region():
    mask = np.zeros((101, 101), bool)
    mask[::2] = True
    mask[1::4, -1] = mask[3::4, 0] = True

    assert connected(mask)[1] == 1


def test_boxes_by_hand():
    errors = drawn(
        "900000",
        "090011",
        "000000",
        "000600",
    )

    found = regions(errors, image=GREY, threshold=2.0)

    assert found == [
        Region(top=0, left=0, height=2, width=2, pixels=2, error=9.0, share=18 / 26),
        Region(top=3, left=3, height=1, width=1, pixels=1, error=6.0, share=6 / 26),
    ]


def test_what_lies_on_the_threshold_is_not_above_it():
    assert regions(drawn("22"), image=GREY, threshold=2.0) == []


def test_a_picture_without_error_has_no_region():
    assert regions(np.zeros((3, 3), np.float32), image=GREY, threshold=0.1) == []


def test_equal_regions_come_in_reading_order_and_no_more_than_asked_for():
    errors = drawn(
        "0005",
        "0000",
        "5005",
        "0000",
        "5000",
    )

    found = regions(errors, image=GREY, threshold=1.0, most=3)

    assert [(one.top, one.left) for one in found] == [(0, 3), (2, 0), (2, 3)]


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_the_errors_of_colours_are_averaged(layout):
    errors = np.zeros((3, 2, 4), np.float32)
    errors[1, 0, 2:] = 9
    if layout == "HWC":
        errors = np.moveaxis(errors, 0, -1)

    found = regions(errors, image=ImageSpec("RGB", layout), threshold=2.9)

    assert found == [Region(top=0, left=2, height=1, width=2, pixels=2, error=3.0, share=1.0)]
    assert regions(errors, image=ImageSpec("RGB", layout), threshold=3.1) == []
