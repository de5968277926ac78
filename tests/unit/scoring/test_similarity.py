"""Structural similarity: against the formula written out place by place."""

import numpy as np
import pytest

from service.scoring.similarity import structural_dissimilarity
from service.specs import ImageSpec

GREY = ImageSpec("L", "HW")


def place_by_place(x, y, window):
    """1 - mean SSIM of two grey pictures in 0..1, as Wang et al. (2004) write it."""
    offsets = np.arange(window) - window // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for top in range(x.shape[0] - window + 1):
        for left in range(x.shape[1] - window + 1):
            a = x[top : top + window, left : left + window].astype(float)
            b = y[top : top + window, left : left + window].astype(float)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            found.append(
                (2 * mean_a * mean_b + 0.01**2)
                * (2 * both + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
            )
    return 1 - np.mean(found)


@pytest.mark.parametrize(
    ("shape", "window"), [((14, 17), 11), ((11, 11), 11), ((7, 7), 7), ((3, 3), 3), ((1, 1), 1)]
)
def test_it_is_the_formula_at_every_place_under_the_largest_window_that_fits(shape, window):
    x, y = np.random.default_rng(0).random((2, *shape), np.float32)

    scores = structural_dissimilarity(x[None], y[None], image=GREY)

    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [place_by_place(x, y, window)], rtol=1e-5)


def test_an_even_short_side_takes_the_next_smaller_odd_window():
    x, y = np.random.default_rng(0).random((2, 6, 6), np.float32)

    scores = structural_dissimilarity(x[None], y[None], image=GREY)

    np.testing.assert_allclose(scores, [place_by_place(x, y, 5)], rtol=1e-5)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_colours_are_averaged_wherever_they_stand(layout):
    x, y = np.random.default_rng(1).random((2, 3, 12, 13), np.float32)
    expected = np.mean([place_by_place(a, b, 11) for a, b in zip(x, y, strict=True)])
    if layout == "HWC":
        x, y = np.moveaxis(x, 0, -1), np.moveaxis(y, 0, -1)

    scores = structural_dissimilarity(x[None], y[None], image=ImageSpec("RGB", layout))

    np.testing.assert_allclose(scores, [expected], rtol=1e-5)


def test_it_does_not_depend_on_how_pixels_are_written():
    x, y = np.random.default_rng(2).integers(0, 256, (2, 1, 12, 12), np.uint8)

    scores = structural_dissimilarity(x, y, image=GREY, limits=(0.0, 255.0))

    expected = structural_dissimilarity(
        (x / 255).astype(np.float64), (y / 255).astype(np.float64), image=GREY
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_lost_structure_counts_more_than_changed_brightness():
    x = np.tile(np.array([0.3, 0.5], np.float32), (1, 14, 7))
    brighter, flat = x + np.float32(0.1), np.full_like(x, 0.4)

    scores = [structural_dissimilarity(x, y, image=GREY).item() for y in (brighter, flat)]

    assert scores[0] < 0.1
    assert scores[1] > 0.8
