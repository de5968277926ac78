import asyncio
import threading

import pytest

from service.assembly import Engine
from service.errors import PackageError
from service.inference.allowance import Allowance, Turns
from service.inference.providers import Device
from service.loading import Load
from tests.fakes import WAIT_S, FakeSession

LIVE = object()  # a live model is only passed on here


@pytest.fixture
def load(lanes, metrics):
    """Make a load and the list of what it drops."""

    def load(make, *, timeout_s=WAIT_S):
        engine = Engine(
            device=Device(),
            lanes=lanes,
            make_session=lambda *_: FakeSession(),
            metrics=metrics,
            load_timeout_s=timeout_s,
        )
        dropped: list[object] = []
        return Load(make, engine, dropped.append), engine, dropped

    return load


async def until(is_so):
    async with asyncio.timeout(WAIT_S):
        while not is_so():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)


async def ended(awaitable):
    async with asyncio.timeout(WAIT_S):
        return await awaitable


@pytest.mark.anyio
async def test_what_was_made_is_given(load):
    made, _, dropped = load(lambda _: LIVE)

    assert await ended(made.run()) is LIVE
    assert dropped == []


@pytest.mark.anyio
async def test_what_was_raised_is_raised(load):
    def make(_):
        raise PackageError("it is bad")

    with pytest.raises(PackageError, match="it is bad"):
        await ended(load(make)[0].run())


@pytest.mark.anyio
async def test_a_load_that_can_be_stopped_is_stopped_when_its_time_is_up(load):
    def make(allowance):
        while not allowance.stop.options.terminate:
            pass
        raise PackageError("stopped")

    made, _, _ = load(make, timeout_s=0.02)

    with pytest.raises(PackageError, match=r"^it was not loaded within 0\.02 s$"):
        await ended(made.run())


@pytest.mark.anyio
async def test_one_that_cannot_be_stopped_is_left_behind_and_what_it_makes_is_dropped(
    load, monkeypatch
):
    monkeypatch.setattr("service.loading.ENDS_WITHIN_S", 0.01)
    gate = threading.Event()
    made, _, dropped = load(lambda _: gate.wait(WAIT_S) and LIVE, timeout_s=0.02)

    with pytest.raises(PackageError, match="was not loaded within"):
        await ended(made.run())
    was_stuck = made.is_stuck
    gate.set()
    await until(lambda: dropped)

    assert was_stuck
    assert dropped == [LIVE]


@pytest.mark.anyio
async def test_one_that_ends_as_it_is_stopped_has_loaded(load):
    def make(allowance):
        while not allowance.stop.options.terminate:
            pass
        return LIVE

    assert await ended(load(make, timeout_s=0.02)[0].run()) is LIVE


@pytest.mark.anyio
async def test_the_turn_of_one_that_was_given_up_is_free_for_others(load):
    def make(allowance):
        with allowance.turn(engine.measuring):
            has_turn.set()
            gate.wait(WAIT_S)
        raise PackageError("stopped")

    has_turn, gate = threading.Event(), threading.Event()
    made, engine, _ = load(make, timeout_s=0.02)
    running = asyncio.create_task(made.run())
    await until(has_turn.is_set)
    await until(lambda: engine.measuring._holder is None)
    gate.set()

    with pytest.raises(PackageError, match="was not loaded within"):
        await ended(running)


def test_the_clock_stands_while_somebody_waits_for_a_turn():
    turns = Turns()
    turns.take("another")
    allowance = Allowance(WAIT_S)
    readings = []

    def wait():
        with allowance.turn(turns):
            readings.append(allowance.left_s)

    thread = threading.Thread(target=wait)
    thread.start()
    while allowance._waits_since is None:
        pass
    before = allowance.left_s
    threading.Event().wait(0.05)
    during = allowance.left_s
    turns.leave("another")
    thread.join(WAIT_S)

    assert during == pytest.approx(before, abs=0.01)
    assert readings[0] == pytest.approx(before, abs=0.03)
    assert allowance.left_s < WAIT_S


def test_a_turn_is_left_by_its_holder_alone():
    turns = Turns()
    turns.take("first")

    turns.leave("second")

    assert turns._holder == "first"
