"""Whose turn it is on a device, and what its threads do with what they are given."""

import asyncio
import gc
import threading
import weakref
from collections import Counter

import pytest

from service.errors import UnavailableError
from service.inference.lane import Lane
from tests.fakes import WAIT_S
from tests.unit.inference.jobs import turns_of_the_loop, until


class Line:
    """A queue with so many runs to make, each of so many seconds; nothing is really run.

    Attributes:
        asked: How often it was asked to start a run.
    """

    def __init__(self, name, cost_s, runs, turns):
        self.name = name
        self.spent_s = 0.0
        self.asked = 0
        self.runs = runs
        self._cost_s = cost_s
        self._turns = turns

    def start(self):
        self.asked += 1
        if self.runs:
            self.runs -= 1
            self.spent_s += self._cost_s
            self._turns.append(self.name)
        return self.runs > 0


class Counted(Line):
    """One that notes how many runs it has to make whenever it is asked, and makes none."""

    def __init__(self, name, cost_s, runs, turns):
        super().__init__(name, cost_s, runs, turns)
        self.found = []

    def start(self):
        self.found.append(self.runs)
        return False


class Held(Line):
    """One whose runs go to a thread of the lane and stay there until they are let go."""

    def __init__(self, lane, runs):
        super().__init__("held", 1.0, runs, [])
        self.told = []
        self.started = threading.Semaphore(0)
        self.gate = threading.Event()
        self._lane = lane

    def start(self):
        has_more = super().start()
        self._lane.run(self._wait, self.told.append)
        return has_more

    def _wait(self):
        self.started.release()
        assert self.gate.wait(WAIT_S)

    async def has_started(self):
        assert await asyncio.to_thread(self.started.acquire, timeout=WAIT_S)


async def outcome_of(lane, call):
    """Make *call* in a thread, and wait until its end is told."""
    told = asyncio.get_running_loop().create_future()
    lane.run(call, told.set_result)
    return await asyncio.wait_for(told, WAIT_S)


def fail(error):
    raise error


def threads_of(lane):
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{lane}_")]


class TestTurns:
    @pytest.mark.anyio
    async def test_who_has_had_the_least_of_the_device_goes_next(self, lane):
        turns: list[str] = []
        dear, cheap = Line("dear", 4.0, 10, turns), Line("cheap", 1.0, 20, turns)
        lane.line_up(dear)
        lane.line_up(cheap)

        await until(lambda: len(turns) == 30)

        assert Counter(turns[:15]) == {"dear": 3, "cheap": 12}
        assert turns[-5:] == ["dear"] * 5

    @pytest.mark.anyio
    async def test_those_whose_runs_cost_the_same_take_turns(self, lane):
        turns: list[str] = []
        for name in "abc":
            lane.line_up(Line(name, 1.0, 4, turns))

        await until(lambda: len(turns) == 12)

        assert turns == list("abc") * 4

    @pytest.mark.anyio
    async def test_who_comes_back_has_no_claim_to_the_time_in_which_it_wanted_nothing(self, lane):
        turns: list[str] = []
        steady, late = Line("steady", 1.0, 200, turns), Line("late", 1.0, 10, turns)
        lane.line_up(steady)
        await turns_of_the_loop(100)
        before = len(turns)
        lane.line_up(late)

        await until(lambda: len(turns) == 210)

        assert Counter(turns[before : before + 10])["late"] == pytest.approx(5, abs=1)

    @pytest.mark.anyio
    async def test_who_lines_up_again_while_it_waits_stands_in_line_once(self, lane):
        turns: list[str] = []
        line = Line("a", 1.0, 2, turns)
        for _ in range(3):
            lane.line_up(line)

        assert lane.queues == 1
        await until(lambda: lane.queues == 0)
        assert (turns, line.asked) == (["a", "a"], 2)

    @pytest.mark.anyio
    async def test_all_arrivals_of_one_turn_of_the_loop_are_there_at_the_first_start(self, lane):
        line = Counted("a", 1.0, 0, [])
        loop = asyncio.get_running_loop()

        def arrive():
            line.runs += 1
            lane.line_up(line)

        for _ in range(4):
            loop.call_soon(arrive)
        await turns_of_the_loop(5)

        assert line.found == [4]

    @pytest.mark.anyio
    async def test_who_has_nothing_more_is_not_asked_again(self, lane):
        line = Line("a", 1.0, 1, [])
        lane.line_up(line)

        await turns_of_the_loop(5)

        assert (line.asked, lane.queues) == (1, 0)

    @pytest.mark.anyio
    async def test_while_every_thread_is_busy_nobody_is_asked(self, two):
        held, line = Held(two, 2), Line("a", 1.0, 1, [])
        two.line_up(held)
        await held.has_started()
        await held.has_started()
        two.line_up(line)
        await turns_of_the_loop(5)
        asked_while_busy = line.asked
        held.gate.set()

        await until(lambda: not two.queues)

        assert (asked_while_busy, line.asked) == (0, 1)

    @pytest.mark.anyio
    async def test_the_device_gets_its_next_run_before_the_last_one_is_told(self, lane):
        """Answers are written while it works."""
        order: list[str | None] = []
        held = Held(lane, 1)
        held.told = order
        line = Line("next", 1.0, 1, order)
        lane.line_up(held)
        await held.has_started()
        lane.line_up(line)
        held.gate.set()

        await until(lambda: len(order) == 2)

        assert order == ["next", None]


class TestThreads:
    @pytest.mark.anyio
    async def test_the_result_of_a_call_is_told_in_the_loop(self, lane):
        here = threading.current_thread()
        told = asyncio.get_running_loop().create_future()

        lane.run(
            lambda: threading.current_thread().name,
            lambda name: told.set_result((name, threading.current_thread() is here)),
        )

        assert await asyncio.wait_for(told, WAIT_S) == ("test_0", True)

    @pytest.mark.anyio
    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
    async def test_an_error_of_a_call_is_told_and_ends_no_thread(self, lane, error):
        told = await outcome_of(lane, lambda: fail(error))

        assert told is error
        assert await outcome_of(lane, lambda: "later") == "later"
        assert len(threads_of("test")) == 1

    @pytest.mark.anyio
    async def test_several_threads_run_side_by_side(self, two):
        both = threading.Barrier(2, timeout=WAIT_S)

        results = await asyncio.gather(*(outcome_of(two, both.wait) for _ in range(2)))

        assert sorted(results) == [0, 1]

    @pytest.mark.anyio
    async def test_there_are_never_more_runs_at_a_time_than_threads(self, two):
        running, most = 0, 0
        lock = threading.Lock()

        def call():
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.002)
            with lock:
                running -= 1

        await asyncio.gather(*(outcome_of(two, call) for _ in range(10)))

        assert most <= 2
        assert len(threads_of("two")) == 2

    @pytest.mark.anyio
    async def test_one_run_after_another_needs_one_thread(self, two):
        for _ in range(5):
            await outcome_of(two, lambda: None)

        assert len(threads_of("two")) == 1

    @pytest.mark.anyio
    async def test_what_a_run_held_is_let_go_before_the_next_one_comes(self, lane):
        class Call:
            def __call__(self):
                return None

        call = Call()
        gone = weakref.ref(call)
        await outcome_of(lane, call)
        del call

        await until(lambda: gc.collect() >= 0 and gone() is None)


class TestEnd:
    @pytest.mark.anyio
    async def test_a_closed_lane_refuses_and_tells_so_later(self, lane):
        lane.close()
        told: list[object] = []

        lane.run(lambda: "never", told.append)
        told_at_once = list(told)
        await turns_of_the_loop(5)

        assert told_at_once == []
        assert isinstance(told[0], UnavailableError)

    @pytest.mark.anyio
    async def test_closing_lets_a_run_end_and_then_ends_the_thread(self, lane):
        held = Held(lane, 1)
        lane.line_up(held)
        await held.has_started()
        lane.close()
        told_while_held = list(held.told)
        held.gate.set()

        await until(lambda: held.told and not threads_of("test"))

        assert told_while_held == []
        assert held.told == [None]

    @pytest.mark.anyio
    async def test_those_in_line_are_told_of_the_end_and_do_not_wait_for_the_run(self, lane):
        busy, behind = Held(lane, 1), Held(lane, 1)
        lane.line_up(busy)
        await busy.has_started()
        lane.line_up(behind)
        lane.close()

        await until(lambda: behind.told)

        assert isinstance(behind.told[0], UnavailableError)
        assert busy.told == []
        busy.gate.set()
        await until(lambda: busy.told)

    def test_a_lane_can_be_closed_where_no_loop_runs(self):
        Lane("alone").close()

    def test_a_run_that_outlives_its_loop_disturbs_nobody(self):
        """Whoever waited for it is gone; the thread goes on to its end."""
        lane = Lane("orphan")
        gate, started = threading.Event(), threading.Event()
        told: list[object] = []

        def call():
            started.set()
            assert gate.wait(WAIT_S)

        async def scene():
            lane.run(call, told.append)
            assert await asyncio.to_thread(started.wait, WAIT_S)

        asyncio.run(scene())
        (thread,) = threads_of("orphan")
        gate.set()
        lane.close()
        thread.join(WAIT_S)

        assert not thread.is_alive()
        assert told == []

    @pytest.mark.anyio
    async def test_a_run_without_end_does_not_keep_the_process(self, lane):
        held = Held(lane, 1)
        lane.line_up(held)
        await held.has_started()

        daemons = [thread.daemon for thread in threads_of("test")]

        held.gate.set()
        assert daemons == [True]
