"""Small requests beside large ones: how long a planned run is."""

import pytest

from benchmarks.mixed import planned_run_ms
from service.inference.operations import ANOMALY_SCORE
from tests.benchmarks.made_up import a_mixed


def card(base_s, row_s, useful_rows):
    seconds = [base_s + row_s * rows for rows in (1, 8)]
    cost = {"seconds": seconds, "base_s": base_s, "row_s": row_s, "useful_rows": useful_rows}
    return {"placement": {"cost": {ANOMALY_SCORE: cost}}}


@pytest.mark.parametrize(
    ("cost", "planned_ms"),
    [
        ((0.0, 0.0002, 64), 2.0),  # a batch of less than 64 rows fits
        ((0.0001, 0.00001, 40), 0.5),  # the largest batch takes less than a run may
        ((0.0, 0.005, 1), 5.0),  # already one row takes longer
    ],
)
def test_a_run_is_planned_by_the_cost_on_the_card(cost, planned_ms):
    assert planned_run_ms(card(*cost)) == pytest.approx(planned_ms)


@pytest.mark.parametrize("without", [{}, {"placement": None}, {"placement": {"cost": {}}}])
def test_a_card_without_cost_promises_two_milliseconds(without):
    assert planned_run_ms(without) == 2


def test_latencies_are_medians_of_the_slices():
    run = a_mixed()

    assert (run.solo_p99_ms, run.beside_p99_ms, run.limit_ms) == (2, 5, 6)


@pytest.mark.parametrize(("lag_ms", "is_void"), [(1.0, False), (1.1, True)])
def test_a_generator_that_is_late_for_one_in_a_hundred_voids_the_figures(lag_ms, is_void):
    assert a_mixed(lag_ms=lag_ms).is_void is is_void
