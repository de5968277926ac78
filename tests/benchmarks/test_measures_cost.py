"""What measures and guard cost: what is asked, with which rows, and the report."""

import asyncio

import numpy as np

from benchmarks import measures_cost
from benchmarks.measures_cost import (
    BASE,
    Finding,
    Web,
    ask_in_turn,
    known_rows,
    questions,
    render,
)
from service.offline.pipeline import open_model
from service.repository.packages import read_package
from service.settings import Settings
from tests import tiny


def finding():
    times = {1: [100.0, 200.0, 100.0], 32: [10.0, 10.0, 20.0]}
    costs = {
        count: {BASE: base, f"{BASE}&include=domain": [3 * time for time in base]}
        for count, base in times.items()
    }
    return Finding("tiny/1", costs, Web([500.0, 600.0, 700.0], [1000.0, 1500.0, 700.0]))


def test_golden_rows_are_repeated_until_there_are_enough(tmp_path):
    package = read_package(tiny.write_tabular(tmp_path))

    rows = known_rows(package, 20)

    assert rows.shape == (20, 4)
    assert np.array_equal(rows[8], rows[0])


def test_a_model_is_asked_for_all_that_it_is_calibrated_for_and_the_plain_score_first(tmp_path):
    with open_model(read_package(tiny.write_picture(tmp_path)), Settings(device="cpu")) as live:
        asked = questions(live)
        assert live.calibration is not None
        calibrated = live.calibration.measures

    assert asked[0] == BASE
    assert {query.removeprefix("metric=") for query in asked if "&" not in query} == {*calibrated}
    assert [query.removeprefix(f"{BASE}&") for query in asked if "&" in query] == [
        *("explain=5", "include=regions", "include=domain", "include=uncertain"),
    ]


def test_everything_is_answered_in_every_round_but_the_first_which_does_not_count(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(measures_cost, "ROWS", (1, 2))
    monkeypatch.setattr(measures_cost, "ROWS_A_ROUND", 2)
    package = read_package(tiny.write_picture(tmp_path))

    with open_model(package, Settings(device="cpu")) as live:
        costs = asyncio.run(ask_in_turn(live, known_rows(package, 2), 3))
        asked = questions(live)

    assert list(costs) == [1, 2]
    for taken in costs.values():
        assert list(taken) == asked
        assert all(len(rounds) == 3 and min(rounds) > 0 for rounds in taken.values())


def test_ratios_and_differences_are_taken_round_by_round_and_the_base_has_none():
    report = render([finding()], 3)

    assert f"| `{BASE}` | - | 100.0 | - | - | 10.0 | - |" in report
    assert f"| `{BASE}&include=domain` | 3.00 | 300.0 | 200.0 | 3.00 | 30.0 | 20.0 |" in report
    assert "| tiny/1 | 600 | 1000 | 2.00 |" in report


def test_a_report_tells_how_it_was_measured():
    report = render([finding()], 3)

    assert "Medians of 3 interleaved rounds" in report
    assert "## tiny/1, in process" in report
    assert "1 row, times" in report
    assert "32 rows, times" in report
