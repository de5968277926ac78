import time

import pytest
from hypothesis import assume, given, strategies as st

from service.inference.cost import (
    ENDLESS_ROWS,
    HAND_OVER_S,
    SHARED_RUN_S,
    SHARED_SHARE,
    USEFUL_SHARE,
    CostModel,
    batch_sizes,
    measure_cost,
)

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
BASES = st.floats(1e-6, 1.0)
ROWS = st.floats(1e-7, 0.1)


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


class Clock:
    """Time that passes in runs alone, as much as each is said to take."""

    def __init__(self, *seconds):
        self._left = list(seconds)
        self._now = 0.0
        self.sizes: list[int] = []

    def run(self, size):
        self.sizes.append(size)
        self._now += self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def __call__(self):
        return self._now


def test_the_shortest_run_counts_the_first_included():
    clock = Clock(2e-5, 5e-5, 3e-5, 4e-5)

    assert measure_cost(clock.run, [1], clock=clock).seconds == pytest.approx((2e-5,))


def test_a_disturbed_first_run_costs_nothing_but_its_time():
    clock = Clock(0.09, 3e-5)

    cost = measure_cost(clock.run, [1], clock=clock)

    assert clock.sizes == [1] * 4
    assert cost.seconds == pytest.approx((3e-5,))


def test_a_long_run_is_repeated_once_and_one_of_a_third_of_a_millisecond_twice():
    clock = Clock(3e-4, 3e-4, 3e-4, 0.03)

    measure_cost(clock.run, [1, 4], clock=clock)

    assert clock.sizes == [1] * 3 + [4] * 2


def test_a_very_long_run_is_not_repeated():
    clock = Clock(0.11)

    measure_cost(clock.run, [1, 4], clock=clock)

    assert clock.sizes == [1, 4]


def test_once_a_useful_batch_was_measured_no_larger_one_is_tried():
    clock = Clock(1.0)

    def run(size):
        clock._left = [1e-3 + 1e-4 * size]  # useful are 104 rows
        clock.run(size)

    cost = measure_cost(run, [1, 2, 4, 64, 128, 256, 512], clock=clock)

    assert cost.useful_rows == 104
    assert cost.rows == (1, 2, 4, 64, 128)


def test_where_every_size_must_be_warmed_up_the_useful_batch_is_not_the_last():
    clock = Clock(1.0)

    def run(size):
        clock._left = [1e-3 * size]
        clock.run(size)

    assert measure_cost(run, [1, 2, 4, 8, 16], thorough=True, clock=clock).rows[-1] == 16


def test_after_a_very_long_run_larger_batches_are_taken_in_proportion():
    runs: list[int] = []

    cost = measure_cost(busy(runs, 0.11), [1, 4, 16])

    assert runs == [1, 4]
    assert cost.run_s(16) == 4 * cost.run_s(4)


def test_where_every_size_must_be_warmed_up_none_is_left_out():
    runs: list[int] = []

    measure_cost(busy(runs, 0.11), [1, 4], thorough=True)

    assert runs == [1, 4]


def straight(base_s, row_s, sizes=SIZES):
    """A graph whose runs lie on a straight line."""
    return CostModel(tuple(sizes), tuple(base_s + row_s * size for size in sizes))


def speed(base_s, row_s, rows):
    """Rows a second in runs of *rows*, each handed to a thread."""
    return rows / (HAND_OVER_S + base_s + row_s * rows)


@given(BASES, ROWS)
def test_of_runs_on_a_straight_line_the_fit_is_that_line(base_s, row_s):
    fit = straight(base_s, row_s).fit

    # a part that is next to nothing beside the other drowns in rounding
    assert fit.base_s == pytest.approx(base_s, rel=1e-3, abs=1e-6 * row_s)
    assert fit.row_s == pytest.approx(row_s, rel=1e-3, abs=1e-6 * base_s)


@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=8))
def test_no_part_of_a_fit_is_negative_and_neither_is_a_run(seconds):
    fit = CostModel(SIZES[: len(seconds)], tuple(seconds)).fit

    assert fit.base_s >= 0
    assert fit.row_s >= 0
    assert fit.base_s + fit.row_s > 0


def test_the_fit_is_by_relative_errors_so_short_runs_count_as_much_as_long_ones():
    # by absolute ones the last run would bend the line through itself, and the first cost nothing
    fit = CostModel((1, 10, 100, 1000), (1.1, 2.0, 11.0, 140.0)).fit

    assert fit.base_s + fit.row_s == pytest.approx(1.1, rel=0.2)


def test_larger_batches_that_were_faster_mean_that_rows_are_free():
    fit = CostModel((1, 2, 4), (3.0, 2.0, 1.0)).fit

    assert fit == (2.0, 0.0)


def test_cost_that_grows_faster_than_the_rows_means_that_a_run_itself_is_free():
    fit = CostModel((1, 2, 4), (1.0, 4.0, 16.0)).fit

    assert fit.base_s == 0
    assert fit.row_s == pytest.approx((1 + 2 + 4) / 3)


@given(BASES, ROWS, st.sampled_from([0.5, SHARED_SHARE, USEFUL_SHARE, 0.99]))
def test_the_smallest_batch_that_reaches_its_share_of_the_speed_is_found(base_s, row_s, share):
    cost = straight(base_s, row_s)
    base_s, row_s = cost.fit
    assume(row_s > 0)

    rows = cost.rows_for(share)

    assume(rows < ENDLESS_ROWS)
    wanted = share / row_s
    assert speed(base_s, row_s, rows) >= wanted * (1 - 1e-9)
    assert rows == 1 or speed(base_s, row_s, rows - 1) < wanted * (1 + 1e-9)


def test_where_rows_are_free_no_batch_is_large_enough():
    cost = CostModel((1, 2, 4), (1.0, 1.0, 1.0))

    assert cost.useful_rows >= 1 << 20
    assert cost.shared_rows() >= 1 << 20


@given(BASES, ROWS)
def test_a_shared_run_takes_two_milliseconds_unless_the_model_needs_more(base_s, row_s):
    cost = straight(base_s, row_s)

    rows = cost.shared_rows()

    needed = cost.rows_for(SHARED_SHARE)
    planned_s = cost.fit.base_s + cost.fit.row_s * rows
    assert rows >= needed
    assert rows in {1, needed} or planned_s <= SHARED_RUN_S * (1 + 1e-6)


@given(BASES, ROWS)
def test_a_shared_run_is_no_shorter_than_two_milliseconds_allow(base_s, row_s):
    cost = straight(base_s, row_s)

    one_more = cost.shared_rows() + 1

    assert cost.fit.base_s + cost.fit.row_s * one_more >= SHARED_RUN_S * (1 - 1e-6)


@given(BASES, ROWS)
def test_a_useful_batch_is_worth_more_than_a_shared_one_needs(base_s, row_s):
    cost = straight(base_s, row_s)

    assert cost.useful_rows >= cost.rows_for(SHARED_SHARE)


def test_a_model_that_gains_nothing_from_company_is_not_batched():
    """A row of 20 ms: beside it the hand-over is nothing."""
    cost = straight(0.0, 0.02)

    assert (cost.useful_rows, cost.shared_rows()) == (1, 1)


@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=8), st.integers(1, 300))
def test_a_size_that_is_looked_up_costs_what_lies_on_the_line(seconds, rows):
    """The usual sizes are kept in a table; it must agree with the definition."""
    sizes = SIZES[: len(seconds)]
    cost = CostModel(sizes, tuple(seconds))

    found = cost.run_s(rows)

    points = list(zip(sizes, seconds, strict=True))
    if rows >= sizes[-1]:
        wanted = seconds[-1] * rows / sizes[-1]
    else:
        low = max(point for point in points if point[0] <= rows)
        high = min(point for point in points if point[0] > rows)
        wanted = low[1] + (high[1] - low[1]) * (rows - low[0]) / (high[0] - low[0])
    assert found == pytest.approx(wanted)


def test_once_two_doublings_have_won_nothing_no_larger_batch_is_tried():
    runs: list[int] = []

    def run(size):
        # far from gaining, whatever else the machine does meanwhile
        busy(runs, {1: 0.0, 2: 0.01, 4: 0.09}[size])(size)

    cost = measure_cost(run, [1, 2, 4, 8, 16])

    assert set(runs) == {1, 2, 4}
    assert cost.rows == (1, 2, 4)


def test_while_larger_batches_win_they_are_tried():
    runs: list[int] = []

    measure_cost(busy(runs, 0.015), [1, 2, 4, 8, 16])

    assert set(runs) == {1, 2, 4, 8, 16}


def test_a_saturated_graph_is_still_warmed_up_at_every_size_where_it_must_be():
    runs: list[int] = []

    measure_cost(lambda size: busy(runs, 0.001 * size)(size), [1, 2, 4, 8], thorough=True)

    assert set(runs) == {1, 2, 4, 8}


def test_a_clock_that_stands_still_gives_way_to_the_time_that_passed():
    cost = measure_cost(busy([], 0.001), [1, 2, 4], clock=lambda: 0.0)

    assert all(seconds >= 0.001 for seconds in cost.seconds)
