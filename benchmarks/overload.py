"""Three times as many rows as a model can do: what is still answered, and what it costs.

The peak is measured by a closed loop before and after, so that a machine whose mood changes
meanwhile shows. The load is an open one: a request goes when it is due or not at all.
"""

import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from math import ceil
from statistics import median
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Final

from benchmarks.cases import DENSE, RAW_1, Layout, is_wanted
from benchmarks.generator import OK, Fates
from benchmarks.load import Target, run_slice
from benchmarks.proc import memory_mib, on_cores
from benchmarks.servers import AS_IT_COMES, Caller, running
from benchmarks.slow import SLOW, write_slow
from benchmarks.streams import Stream, generate
from benchmarks.workload import Workload

SECTION: Final = "overload"
TIMES: Final = 3
# what the clients of this load wait for an answer; the default of the service, ten seconds,
# would let a queue hide in it for as long as the load lasts
TIMEOUT_MS: Final = 1000.0
FEWEST_CONNECTIONS: Final = 256
MOST_CONNECTIONS: Final = 4096
# files that generator and server need for other things
SPARE_FILES: Final = 256
# enough that the next row is there when a run ends; the slow model answers all within a deadline
PEAK_CONCURRENCY: Final = {SLOW: 8, DENSE: 32}
# beside the slow one's, in seconds: the dense model's overload is only reported
DENSE_SHARE: Final = 1 / 3
PEAK_AT_LEAST_S: Final = 2
SOLO_S: Final = 1.0
SAMPLE_EVERY_S: Final = 0.25
ASK_AGAIN_S: Final = 0.01
RECOVERED_WITHIN_S: Final = 20.0
# by how much a single answer may be slower than it usually was before the load
NORMAL: Final = 1.5


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of the server under load, in MiB.

    Attributes:
        growth: From the second fifth of the time to the last; before, the queue fills.
    """

    start: float
    highest: float
    end: float
    growth: float


@dataclass(frozen=True, slots=True)
class Overload:
    """One model under three times its peak.

    Attributes:
        run_ms: One row in ONNX Runtime alone; 0 where it was not measured.
        peaks: Rows/s of the closed loop, before and after.
        normal_ms: The median latency of a single client before the load.
        recovered_s: From the end of the load until a single request took not much longer than
            that; infinite if it never did.
    """

    model: str
    run_ms: float
    peaks: tuple[float, float]
    seconds: float
    fates: Fates
    memory: Memory
    normal_ms: float
    recovered_s: float

    @property
    def peak(self) -> float:
        return sum(self.peaks) / len(self.peaks)

    @property
    def goodput(self) -> float:
        """Rows/s answered in time."""
        return self.fates.in_time / self.seconds

    @property
    def share(self) -> float:
        """Goodput divided by the peak."""
        return self.goodput / self.peak

    @property
    def is_void(self) -> bool:
        """Whether the load was not what was planned."""
        return self.fates.unsent > self.fates.planned / 100


def measure(
    workload: Workload,
    layout: Layout,
    *,
    seconds: float,
    patterns: Sequence[str],
    say: Callable[[str], None],
) -> Iterator[Overload]:
    """Overload the slow model for *seconds* and the dense one for a third of that."""
    allow_many_files()
    if is_wanted(f"{SECTION}/{SLOW}", patterns):
        say(f"{SECTION}/{SLOW}")
        # in a repository of its own: it would make every start of the other servers slow
        slow = write_slow(workload.repository.with_name("slow"))
        theirs = replace(workload, repository=slow.repository)
        yield _overload(theirs, layout, slow.name, seconds, run_ms=slow.run_ms)
    if is_wanted(f"{SECTION}/{DENSE}", patterns):
        say(f"{SECTION}/{DENSE}")
        yield _overload(workload, layout, DENSE, seconds * DENSE_SHARE)


def _overload(
    workload: Workload, layout: Layout, model: str, seconds: float, *, run_ms: float = 0.0
) -> Overload:
    with running(AS_IT_COMES, workload, model, layout.server) as server:
        target = server.target(model, RAW_1)
        with on_cores(layout.generator):
            normal_s = solo_s(target)
        first = _peak(target, model, layout, seconds)
        recovered: list[float] = []
        rate = TIMES * first
        stream = Stream(target, rate, seconds, TIMEOUT_MS, _connections(rate))
        with watching(server.pid) as taken:
            outcome = generate(
                stream,
                layout,
                afterwards=lambda: recovered.append(recovery_s(target, NORMAL * normal_s)),
            )
        second = _peak(target, model, layout, seconds)
    if outcome.fates is None:
        raise RuntimeError("the generator does not say what became of the requests")
    return Overload(
        model=model,
        run_ms=run_ms,
        peaks=(first, second),
        seconds=seconds,
        fates=outcome.fates,
        memory=memory_of(taken),
        normal_ms=normal_s * 1e3,
        recovered_s=recovered[0],
    )


def solo_s(target: Target, seconds: float = SOLO_S) -> float:
    """Give the median latency of a single client."""
    latencies = []
    end = perf_counter() + seconds
    with closing(Caller(target)) as caller:
        while perf_counter() < end:
            latencies.append(caller.call()[1])
    return median(latencies)


def recovery_s(target: Target, normal_s: float) -> float:
    """Ask one request after the other until one is answered within *normal_s*."""
    started = perf_counter()
    with closing(Caller(target)) as caller:
        while perf_counter() - started < RECOVERED_WITHIN_S:
            status, took_s = caller.call()
            if status == OK and took_s <= normal_s:
                return perf_counter() - started
            sleep(ASK_AGAIN_S)
    return float("inf")


def _connections(rate: float) -> int:
    """Say how many connections can hold all that waits: what comes within a deadline."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    within_a_deadline = ceil(rate * TIMEOUT_MS / 1e3)
    wanted = min(max(FEWEST_CONNECTIONS, within_a_deadline), MOST_CONNECTIONS)
    return min(wanted, soft - SPARE_FILES)


def allow_many_files() -> None:
    """Let the servers and generators that are started from here open what they are allowed to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _peak(target: Target, model: str, layout: Layout, seconds: float) -> float:
    """Count the rows/s of successful answers; right after an overload some may be refused."""
    sample = run_slice(
        target,
        concurrency=PEAK_CONCURRENCY[model],
        seconds=max(PEAK_AT_LEAST_S, round(seconds / 10)),
        cores=layout.generator,
    ).sample
    return sample.requests_per_s * (1 - sample.error_share) * RAW_1.rows


@contextmanager
def watching(pid: int) -> Iterator[list[float]]:
    """Take the memory of a process from time to time, in MiB."""
    taken = [memory_mib(pid, "VmRSS")]
    is_over = Event()

    def watch() -> None:
        while not is_over.wait(SAMPLE_EVERY_S):
            taken.append(memory_mib(pid, "VmRSS"))

    thread = Thread(target=watch)
    thread.start()
    try:
        yield taken
    finally:
        is_over.set()
        thread.join()


def memory_of(taken: Sequence[float]) -> Memory:
    """Sum up samples taken at equal distances."""
    fifth = max(1, len(taken) // 5)
    early, late = taken[fifth : 2 * fifth] or taken, taken[-fifth:]
    return Memory(taken[0], max(taken), taken[-1], median(late) - median(early))
