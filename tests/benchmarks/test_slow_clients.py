"""Slow clients: what is allowed, and what is said of it."""

import pytest

from benchmarks.generator import Figures
from benchmarks.slow_clients import (
    CONNECTIONS,
    HEAD,
    Attack,
    Course,
    Turn,
    attacks,
    is_well,
    row,
    times,
)
from service.settings import Settings

ATTACK = Attack("heads", ("-H",), 10.0)


def a_turn(
    *,
    beside_ms: float = 3.0,
    lag_ms: float = 0.1,
    errors: int = 0,
    most: int = CONNECTIONS,
    lasted_s: float = 13.0,
) -> Turn:
    """The others have a p99 of 2 ms when they are alone."""
    alone, beside = Figures(200, 1, 2.0, 0.1, 0), Figures(200, 1, beside_ms, lag_ms, errors)
    return Turn(alone, beside, Course(most, lasted_s))


@pytest.mark.parametrize(
    ("turn", "well"),
    [
        (a_turn(), True),
        (a_turn(beside_ms=4.0), True),
        (a_turn(beside_ms=4.1), False),
        (a_turn(errors=1), False),
        (a_turn(most=CONNECTIONS // 2), False),
        (a_turn(lasted_s=ATTACK.allowed_s), True),
        (a_turn(lasted_s=ATTACK.allowed_s + 0.1), False),
        (a_turn(lasted_s=float("inf")), False),
    ],
)
def test_all_is_well_when_nobody_suffers_and_nobody_slow_is_left(turn, well):
    assert is_well(ATTACK, [a_turn(), turn, turn]) is well
    assert row(ATTACK, [a_turn(), turn, turn])[-1] == ("well" if well else "NOT WELL")


def test_a_generator_that_is_late_voids_the_figures():
    late = [a_turn(lag_ms=2.1)]

    assert not is_well(ATTACK, late)
    assert row(ATTACK, late)[-1] == "void"


def test_latencies_are_medians_of_the_turns():
    assert times([a_turn(beside_ms=ms) for ms in (1, 3, 100)]) == 1.5


def test_a_line_has_a_cell_for_each_column():
    assert len(row(ATTACK, [a_turn()])) == len(HEAD)


def test_deadlines_follow_from_the_settings():
    slow = Settings(header_timeout_ms=1000, request_timeout_ms=2000, send_timeout_ms=3000)

    deadlines = {attack.name: attack.deadline_s for attack in attacks(slow)}

    assert deadlines == {"heads": 1, "bodies": 2, "readers": 8}
