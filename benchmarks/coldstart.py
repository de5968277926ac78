"""Cold start: from the start of a process to its first right answer, and its memory then."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.cases import CONV, Layout
from benchmarks.proc import memory_mib
from benchmarks.servers import CONTENDERS, Contender, Server
from benchmarks.workload import Workload


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One start; memory is what the process holds after its first answer."""

    seconds: float
    memory_mib: float


def measure(workload: Workload, layout: Layout, repeats: int) -> dict[str, ColdStart]:
    """Start every contender *repeats* times in turn; medians by contender.

    The files are in the page cache after the first time, as they are when a server restarts.
    """
    starts: dict[str, list[ColdStart]] = {contender.name: [] for contender in CONTENDERS}
    for _ in range(repeats):
        for contender in CONTENDERS:
            starts[contender.name].append(_start(contender, workload, layout))
    return {name: _medians(taken) for name, taken in starts.items()}


def _start(contender: Contender, workload: Workload, layout: Layout) -> ColdStart:
    server = Server(contender, workload, CONV, cores=layout.server)
    try:
        seconds = server.wait_for_answer(CONV)
        return ColdStart(seconds, memory_mib(server.pid, "VmRSS"))
    finally:
        server.stop()


def _medians(starts: Sequence[ColdStart]) -> ColdStart:
    return ColdStart(
        median(start.seconds for start in starts), median(start.memory_mib for start in starts)
    )
