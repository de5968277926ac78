"""What JSON costs a row, beside the usual ways."""

import os

import numpy as np
import pytest

from benchmarks import json_cost
from benchmarks.cases import Layout
from benchmarks.closed_loop import Samples
from benchmarks.json_cost import PARSERS, RENDERERS, Trial, render, trials
from benchmarks.report import Results, write_report
from benchmarks.servers import HOURGLASS


def measured(*patterns: str) -> dict[Trial, dict[str, list[float]]]:
    everywhere = frozenset(os.sched_getaffinity(0))
    layout = Layout("anywhere", everywhere, everywhere)
    return json_cost.measure(layout, rounds=2, patterns=patterns, say=lambda _: None)


def test_both_steps_are_tried_with_few_and_with_many_rows():
    assert [trial.name for trial in trials([])] == [
        *("json/parse/1", "json/parse/32", "json/parse/512"),
        *("json/render/1", "json/render/32", "json/render/512"),
    ]


def test_a_pattern_chooses():
    assert trials(["json/*/32"]) == [Trial("parse", 32), Trial("render", 32)]
    assert measured("pinned/*", "hot-path/*") == {}


@pytest.mark.slow
def test_everybody_is_measured_in_every_round():
    costs = measured("json/*/1")

    assert list(costs) == [Trial("parse", 1), Trial("render", 1)]
    for taken in costs.values():
        assert list(taken) == list(PARSERS) == list(RENDERERS)
        assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in taken.values())


def test_a_contender_with_other_numbers_is_found_out():
    rows = np.ones((1, 2), np.float32)

    with pytest.raises(RuntimeError, match="json does not give the same numbers"):
        json_cost._check({"orjson": rows, "json": rows + 1}, rows)


def test_ratios_are_taken_round_by_round():
    taken = {HOURGLASS: [10.0, 40.0, 20.0], "orjson": [20.0, 40.0, 30.0]}
    taken |= {"json": [100.0, 200.0, 100.0], "pydantic": [80.0, 320.0, 160.0]}
    results = Results({}, Samples(), json_costs={Trial("parse", 32): taken})

    text = write_report(results, {})

    assert "## JSON alone" in text
    row = "parse | 32 | 20.0 | 30.0 | 100.0 | 160.0 | 1.5 (1.0 to 2.0) | 5.0 (5.0 to 10.0)"
    assert f"| {row} | 8.0 (8.0 to 8.0) |" in text
    assert render({Trial("parse", 32): taken}) in text
