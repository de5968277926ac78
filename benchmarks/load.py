"""Closed-loop load by wrk: every connection asks again as soon as it is answered."""

import json
import resource
import shutil
import subprocess
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from benchmarks.proc import busy_s, cpu_s, on_cores
from benchmarks.stats import Sample

SCRIPT: Final = Path(__file__).with_name("request.lua")
MARK: Final = "result "
# what a slice may take longer than it should; wrk gives up on an answer after two seconds
PATIENCE_S: Final = 30


@dataclass(frozen=True, slots=True)
class Target:
    """Where a contender is asked, and what with."""

    pid: int
    url: str
    body: Path
    media: str


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What wrk counted; its latencies are made up for what it could not send meanwhile."""

    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    errors: int


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice, and how much of the machine anybody else used during it (1 is one core)."""

    sample: Sample
    others_share: float


def find_wrk() -> str:
    """Find the load generator.

    Raises:
        SystemExit: It is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("the benchmark needs wrk: apt-get install wrk")
    return path


def run_slice(target: Target, *, concurrency: int, seconds: int, cores: AbstractSet[int]) -> Slice:
    """Load *target* for a while from *cores*.

    Raises:
        RuntimeError: wrk failed.
    """
    before = cpu_s(target.pid), _generators_cpu_s(), busy_s(), monotonic()
    result = parse(_wrk(target, concurrency=concurrency, seconds=seconds, cores=cores))
    after = cpu_s(target.pid), _generators_cpu_s(), busy_s(), monotonic()
    server_s, generator_s, all_s, wall_s = (b - a for a, b in zip(before, after, strict=True))
    duration_s = result.duration_us / 1e6
    sample = Sample(
        requests_per_s=result.requests / duration_s,
        p50_ms=result.p50_us / 1e3,
        p99_ms=result.p99_us / 1e3,
        cpu_us=server_s * 1e6 / max(1, result.requests),
        generator_share=generator_s / duration_s,
        errors=result.errors,
        error_share=result.errors / max(1, result.requests),
    )
    return Slice(sample, max(0.0, all_s - server_s - generator_s) / wall_s)


def parse(output: str) -> WrkResult:
    """Find the line that the script writes.

    Raises:
        RuntimeError: It is not there.
    """
    for line in output.splitlines():
        if line.startswith(MARK):
            return WrkResult(**json.loads(line.removeprefix(MARK)))
    raise RuntimeError(f"wrk gave no result: {output!r}")


def _wrk(target: Target, *, concurrency: int, seconds: int, cores: AbstractSet[int]) -> str:
    options = ["-t1", f"-c{concurrency}", f"-d{seconds}s", "-s", str(SCRIPT)]
    arguments = [target.url, "--", str(target.body), target.media]
    with on_cores(cores):
        done = subprocess.run(  # noqa: S603 - our own script on a local server
            [find_wrk(), *options, *arguments],
            capture_output=True,
            text=True,
            timeout=seconds + PATIENCE_S,
            check=False,
        )
    return done.stdout + done.stderr


def _generators_cpu_s() -> float:
    """Give the CPU time of all children that have ended: the difference is the last one's."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
