"""CPU time of a request without sockets."""

import asyncio
import cProfile
import os
import pstats

import pytest
import uvloop

from benchmarks import hotpath
from benchmarks.cases import CONV, DENSE, JSON_1, RAW_1, Layout
from benchmarks.hotpath import Cost, Trial, profile_lines, times_bare, trials
from benchmarks.workload import write_dense


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_dense(folder)
    return folder


def test_the_bare_server_is_asked_once_for_each_body_and_concurrency():
    names = [trial.name for trial in trials([])]

    assert len(set(names)) == len(names) == 10
    assert [name for name in names if "/bare/" in name] == [
        "hot-path/bare/raw-1/1",
        "hot-path/bare/raw-1/32",
        "hot-path/bare/json-1/1",
        "hot-path/bare/json-1/32",
    ]


def test_a_chosen_trial_brings_its_floor():
    wanted = Trial(CONV, RAW_1, 32)

    assert trials(["*/mnist-conv/*/32"]) == [wanted.floor, wanted]


def test_patterns_of_other_parts_choose_nothing():
    assert trials(["pinned/*", "cold-start"]) == []


def test_ratios_are_taken_round_by_round():
    trial = Trial(DENSE, JSON_1, 1)
    costs = {
        trial: [Cost(100, 90), Cost(300, 90), Cost(200, 90)],
        trial.floor: [Cost(10, 10), Cost(60, 60), Cost(40, 40)],
    }
    found = times_bare(trial, costs)

    assert found is not None
    assert (found.middle, found.low, found.high) == (5, 5, 10)
    assert times_bare(trial.floor, costs) is None


def test_a_profile_counts_calls_by_the_request():
    def called() -> None:
        pass

    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(30):
        called()
    profiler.disable()
    lines = list(profile_lines(pstats.Stats(profiler), 10))

    (line,) = (line for line in lines if line.endswith("called"))
    assert line.split()[0] == "3.00"
    assert "tests/benchmarks/test_hotpath.py:" in line


@pytest.mark.slow
def test_both_servers_are_measured_in_memory(repository):
    trial = Trial(DENSE, RAW_1, 4)

    async def measure() -> dict[Trial, list[Cost]]:
        async with asyncio.timeout(60):
            wanted = [trial.floor, trial]
            return await hotpath._measure(repository, wanted, rounds=2, requests=8)

    costs = uvloop.run(measure())

    assert [len(costs[trial.floor]), len(costs[trial])] == [2, 2]
    assert all(cost.loop_us > 0 for taken in costs.values() for cost in taken)
    # the floor reads the same body and answers a constant; the service runs a model as well
    assert min(cost.all_us for cost in costs[trial]) > min(c.all_us for c in costs[trial.floor])


@pytest.mark.slow
def test_the_report_measures_in_a_process_of_its_own(repository):
    everywhere = frozenset(os.sched_getaffinity(0))
    said: list[str] = []
    costs = hotpath.measure(
        repository,
        Layout("anywhere", everywhere, everywhere),
        rounds=1,
        patterns=["hot-path/dense*/raw-1/32"],
        say=said.append,
    )

    wanted = Trial(DENSE, RAW_1, 32)
    assert list(costs) == [wanted.floor, wanted]
    assert [len(taken) for taken in costs.values()] == [1, 1]
    assert said == ["hot-path"]
