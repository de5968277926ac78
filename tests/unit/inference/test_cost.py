import time

import pytest

from service.inference.cost import CostModel, batch_sizes, measure_cost


def test_a_measured_size_costs_what_was_measured():
    assert CostModel((1, 8), (1.0, 2.0)).run_s(8) == 2.0


def test_between_two_measured_sizes_lies_a_straight_line():
    assert CostModel((1, 5), (1.0, 3.0)).run_s(3) == 2.0


def test_beyond_the_largest_size_cost_grows_with_the_rows():
    assert CostModel((1, 8), (1.0, 2.0)).run_s(16) == 4.0


def test_speed_is_that_of_full_batches():
    assert CostModel((1, 8), (1.0, 2.0)).rows_per_s == 4.0


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])],
    ids=str,
)
def test_sizes_are_powers_of_two_and_the_largest(largest, sizes):
    assert batch_sizes(largest) == sizes


def test_every_size_is_warmed_up_once_and_then_timed():
    runs: list[int] = []

    cost = measure_cost(runs.append, [1, 4])

    assert runs == [1] * 4 + [4] * 4
    assert cost.rows == (1, 4)
    assert all(seconds > 0 for seconds in cost.seconds)


def test_rows_larger_than_the_measured_ones_cost_in_proportion():
    cost = CostModel((1, 8), (1.0, 2.0), row_elements=100)

    assert cost.run_s(8, row_elements=300) == 6.0


def test_rows_smaller_than_the_measured_ones_cost_as_much():
    assert CostModel((1,), (1.0,), row_elements=100).run_s(1, row_elements=10) == 1.0


def busy(runs, seconds):
    """A run that notes its size and takes a while."""

    def run(size):
        runs.append(size)
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            pass

    return run


def test_a_long_run_is_not_repeated():
    runs: list[int] = []

    measure_cost(busy(runs, 0.03), [1, 4])

    assert runs == [1, 4]


def test_after_a_very_long_run_larger_batches_are_taken_in_proportion():
    runs: list[int] = []

    cost = measure_cost(busy(runs, 0.11), [1, 4, 16])

    assert runs == [1, 4]
    assert cost.run_s(16) == 4 * cost.run_s(4)


def test_where_every_size_must_be_warmed_up_none_is_left_out():
    runs: list[int] = []

    measure_cost(busy(runs, 0.11), [1, 4], thorough=True)

    assert runs == [1, 4]
