"""What a further model costs: ready time and memory of servers with more and more of them.

python -m benchmarks.further_models                    the bundled models, two minutes
python -m benchmarks.further_models --beside CHECKOUT  and those of another checkout, in turn

Each server starts with all settings at their defaults, files in the page cache, and is asked
until ``/readyz`` is 200.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from benchmarks.markdown import table
from benchmarks.proc import cpu_s, memory_mib
from benchmarks.servers import (
    ROOT,
    START_WITHIN_S,
    STOP_WITHIN_S,
    free_port,
    plain_environment,
)

MODELS: Final = ROOT / "models"
FIRST: Final = "mnist-conv/2"
COUNTS: Final = (1, 4, 7, 11)
ROUNDS: Final = 7
# a question costs the server time, which it takes from the loading
ASK_EVERY_S: Final = 0.02
# what the last calls and collections after the load leave to be done
SETTLED_AFTER_S: Final = 0.3

Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds until ready; CPU time, memory and the most of it a moment later."""

    ready_s: float
    cpu_s: float
    resident_mib: float
    most_mib: float


@dataclass(frozen=True, slots=True)
class Line:
    """Medians of all starts with so many models."""

    checkout: str
    models: int
    start: Start


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    checkouts = [ROOT, *options.beside]
    with tempfile.TemporaryDirectory(prefix="hourglass-further-") as folder:
        repositories = {count: fill(Path(folder), count) for count in options.counts}
        starts = measure(checkouts, repositories, options.rounds)
    print(render(summarise(starts)))


def fill(folder: Path, count: int) -> Path:
    """Make a repository with so many of the bundled versions, ``mnist-conv`` the first."""
    versions = sorted(
        str(path.parent.relative_to(MODELS)) for path in MODELS.glob("*/*/model.json")
    )
    if count > len(versions):
        raise SystemExit(f"there are {len(versions)} bundled versions, not {count}")
    repository = folder / str(count)
    for version in [FIRST, *(each for each in versions if each != FIRST)][:count]:
        shutil.copytree(MODELS / version, repository / version)
    return repository


def measure(
    checkouts: Sequence[Path], repositories: Mapping[int, Path], rounds: int
) -> dict[Key, list[Start]]:
    """Start every checkout with every repository, in turn, as many times as there are rounds."""
    starts: dict[Key, list[Start]] = {}
    for number in range(rounds):
        for count, repository in repositories.items():
            for checkout in checkouts[:: 1 if number % 2 else -1]:
                starts.setdefault((str(checkout), count), []).append(start(checkout, repository))
    return starts


def start(checkout: Path, repository: Path) -> Start:
    """Start one server, wait until it is ready, and end it.

    Raises:
        RuntimeError: It has ended, or is not ready in time.
    """
    port = free_port()
    command = ["-m", "service", "serve", "--device", "cpu", "--port", str(port)]
    started = time.perf_counter()
    server = subprocess.Popen(  # noqa: S603 - our own server
        [sys.executable, *command, "--models", str(repository)],
        cwd=checkout, env=plain_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    asked = _Readiness(port)
    try:
        while not asked.is_ready():
            if server.poll() is not None or time.perf_counter() - started > START_WITHIN_S:
                raise RuntimeError(f"the server of {checkout} does not become ready")
            time.sleep(ASK_EVERY_S)
        ready_s = time.perf_counter() - started
        time.sleep(SETTLED_AFTER_S)
        memory = (memory_mib(server.pid, field) for field in ("VmRSS", "VmHWM"))
        return Start(ready_s, cpu_s(server.pid), *memory)
    finally:
        asked.close()
        server.kill()
        server.wait(STOP_WITHIN_S)


class _Readiness:
    """Asks on one connection: a new one each time would cost the server 2 ms of its loading."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=START_WITHIN_S)

    def is_ready(self) -> bool:
        try:
            self._connection.request("GET", "/readyz")
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, HTTPException):
            self.close()
            return False
        return answer.status == HTTPStatus.OK

    def close(self) -> None:
        self._connection.close()


def summarise(starts: Mapping[Key, Sequence[Start]]) -> list[Line]:
    """Take the median of every figure by itself."""
    return [
        Line(checkout, count, Start(*map(median, zip(*map(astuple, taken), strict=True))))
        for (checkout, count), taken in sorted(starts.items())
    ]


def a_further_one(lines: Sequence[Line]) -> Start:
    """Give the slopes of the straight lines with the smallest squares."""
    counts = [line.models for line in lines]
    slopes = np.polyfit(counts, np.array([astuple(line.start) for line in lines]), 1)[0]
    return Start(*map(float, slopes))


def render(lines: Sequence[Line]) -> str:
    """Write a table for each checkout, with what a further model costs as its last line."""
    parts = []
    for checkout in dict.fromkeys(line.checkout for line in lines):
        here = [line for line in lines if line.checkout == checkout]
        rows = [[str(line.models), *_cells(line.start)] for line in here]
        if len(here) > 1:
            rows.append(["each further one", *_cells(a_further_one(here))])
        head = ["versions", "ready after, s", "CPU, s", "VmRSS, MiB", "VmHWM, MiB"]
        parts.append(f"{checkout}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _cells(start: Start) -> list[str]:
    times = [f"{seconds:.3f}" for seconds in (start.ready_s, start.cpu_s)]
    return times + [f"{mib:.1f}" for mib in (start.resident_mib, start.most_mib)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.further_models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--counts", type=int, nargs="+", default=COUNTS, help="numbers of versions")
    add("--rounds", type=int, default=ROUNDS, help=f"starts of each (default {ROUNDS})")
    add("--beside", type=Path, nargs="+", default=[], help="other checkouts, started in turn")
    return parser


if __name__ == "__main__":
    main()
