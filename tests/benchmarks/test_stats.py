"""Medians, ratios, percentiles."""

import pytest

from benchmarks.stats import Sample, percentile, ratio, summarise


def sample(rate, *, p99_ms=2.0, generator_share=0.0, errors=0):
    return Sample(rate, 1, p99_ms, 3, generator_share, errors)


def test_every_figure_has_its_own_median():
    summary = summarise([sample(10, p99_ms=9), sample(30, p99_ms=5), sample(20, p99_ms=1)])

    assert (summary.requests_per_s, summary.p99_ms) == (20, 5)


def test_errors_add_up():
    assert summarise([sample(1, errors=2), sample(1, errors=3)]).errors == 5


@pytest.mark.parametrize(("share", "is_void"), [(0.9, False), (0.91, True)])
def test_a_generator_at_its_limit_voids_the_figure(share, is_void):
    assert summarise([sample(1, generator_share=share)]).is_void is is_void


def test_ratios_are_taken_slice_by_slice():
    """The machine was three times slower in the last slice, for both."""
    found = ratio([sample(20), sample(40), sample(10)], [sample(10), sample(10), sample(5)])

    assert (found.middle, found.low, found.high) == (2, 2, 4)


def test_a_slice_without_answers_is_no_division_by_zero():
    assert ratio([sample(20), sample(20)], [sample(0), sample(10)]).middle == 2
    assert ratio([sample(20)], [sample(0)]).middle == float("inf")


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_was_there(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_the_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 0.99) == 7


def test_a_cell_with_refusals_is_void():
    samples = [Sample(1000.0, 1.0, 2.0, 3.0, errors=700, error_share=0.7)] * 3

    assert summarise(samples).is_void
