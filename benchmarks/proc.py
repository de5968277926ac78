"""What /proc knows of processes: CPU time, memory, threads and the cores they may use."""

import os
from collections.abc import Iterator, Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int, proc: Path = PROC) -> float:
    """Give the CPU time that a process and its children have used, in user and kernel mode."""
    ticks = 0
    for member in family(pid, proc):
        with suppress(FileNotFoundError):
            ticks += parse_ticks((proc / str(member) / "stat").read_text())
    return ticks / TICKS_PER_S


def parse_ticks(stat: str) -> int:
    """Read utime and stime, the 14th and 15th field; the 2nd may hold spaces and brackets."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory_mib(pid: int, field: str, proc: Path = PROC) -> float:
    """Give ``VmRSS`` (now) or ``VmHWM`` (the most so far) of a process and its children."""
    kib = 0
    for member in family(pid, proc):
        with suppress(FileNotFoundError):
            kib += parse_kib((proc / str(member) / "status").read_text(), field)
    return kib / 1024


def parse_kib(status: str, field: str) -> int:
    """Read a line such as ``VmRSS:    1234 kB``."""
    lines = (line.partition(":") for line in status.splitlines())
    return next(int(value.split()[0]) for name, _, value in lines if name == field)


def family(pid: int, proc: Path = PROC) -> list[int]:
    """List a process and all that descend from it."""
    members = [pid]
    for member in members:  # grows while it is walked
        for children in (proc / str(member) / "task").glob("*/children"):
            members += [int(child) for child in children.read_text().split()]
    return members


def busy_s(proc: Path = PROC) -> float:
    """Give the CPU time that everybody on this machine has used, stolen time included."""
    return parse_busy((proc / "stat").read_text().partition("\n")[0]) / TICKS_PER_S


def parse_busy(line: str) -> int:
    """Add user, nice, system, irq, softirq and steal of the line ``cpu``; idle and iowait not."""
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
    return user + nice + system + irq + softirq + steal


def pin(pid: int, cores: AbstractSet[int]) -> None:
    """Keep every thread of a process on *cores*.

    Inheriting is not enough: ONNX Runtime gives each of its threads a core of its own choice,
    whatever the process was allowed.
    """
    for member in family(pid):
        for task in (PROC / str(member) / "task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


@contextmanager
def on_cores(cores: AbstractSet[int]) -> Iterator[None]:
    """Let processes that are started inside inherit *cores*."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
