"""The generator as a process."""

import os
import sys

import pytest

from benchmarks.cases import Layout
from benchmarks.load import Target
from benchmarks.streams import Stream, generate
from tests.benchmarks.test_generator import ANSWER, server

EVERYWHERE = Layout("anywhere", frozenset(), frozenset(os.sched_getaffinity(0)))


@pytest.fixture
def target(tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"abc")
    return Target(0, "http://127.0.0.1:1/x", body, "text/plain")


def test_options_are_given_only_when_they_are_wanted(target, tmp_path):
    plain = Stream(target, 100, 2).command
    full = Stream(target, 100, 2, timeout_ms=50, connections=9, beside=tmp_path / "large").command

    url, body = target.url, str(target.body)
    program = [sys.executable, "-m", "benchmarks.generator", url, body, "text/plain", "100", "2"]
    assert plain == [*program, "--connections", "256"]
    large = str(tmp_path / "large")
    assert full == [*program, "--connections", "9", "--timeout-ms", "50", "--beside", large]


@pytest.mark.slow
def test_the_generator_reports_figures_and_fates(target):
    sent: list[str] = []
    with server([ANSWER] * 10 + [ANSWER.replace(b"200 OK", b"429 Too Many Requests")] * 10) as (
        host,
        port,
    ):
        there = Target(0, f"http://{host}:{port}/x", target.body, target.media)
        stream = Stream(there, 100, 0.2, timeout_ms=10_000, connections=20)
        outcome = generate(stream, EVERYWHERE, afterwards=lambda: sent.append("sent"))

    assert outcome.fates is not None
    assert (outcome.fates.planned, outcome.fates.refused) == (20, 10)
    # the last ones may come when the load is over, and count as late then
    assert outcome.fates.in_time + outcome.fates.late == 10
    assert outcome.figures.errors == 10
    assert sent == ["sent"]


@pytest.mark.slow
def test_a_generator_that_fails_is_noticed(target, capfd):
    with pytest.raises(RuntimeError, match="the generator has failed"):
        generate(Stream(target, 100, 0.1), EVERYWHERE)
    assert "ConnectionRefusedError" in capfd.readouterr().err
