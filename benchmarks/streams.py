"""Runs of the open-loop generator, in a process on its own core."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Final

from benchmarks.cases import Layout
from benchmarks.generator import MAX_CONNECTIONS, PATIENCE_S, SENT, Fates, Figures
from benchmarks.load import Target
from benchmarks.proc import on_cores
from benchmarks.servers import ROOT

START_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Stream:
    """What the generator is to send.

    Attributes:
        timeout_ms: Deadline of each request; without it they wait as long as it takes.
        beside: Body to send again and again beside it.
    """

    target: Target
    rate: float
    seconds: float
    timeout_ms: float | None = None
    connections: int = MAX_CONNECTIONS
    beside: Path | None = None

    @property
    def command(self) -> list[str]:
        """The program with its arguments."""
        target = self.target
        command = [sys.executable, "-m", "benchmarks.generator", target.url, str(target.body)]
        command += [target.media, str(self.rate), str(self.seconds)]
        command += ["--connections", str(self.connections)]
        command += ["--timeout-ms", f"{self.timeout_ms:g}"] if self.timeout_ms else []
        command += ["--beside", str(self.beside)] if self.beside else []
        return command


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the generator found; *fates* when requests had a deadline."""

    figures: Figures
    fates: Fates | None


def generate(
    stream: Stream, layout: Layout, *, afterwards: Callable[[], None] = lambda: None
) -> Outcome:
    """Run the generator on its own core.

    Args:
        stream: What it is to send.
        layout: Where it may run.
        afterwards: Called on the same core when everything has been sent; the generator then
            sleeps but for the last answers.

    Raises:
        RuntimeError: It has failed.
    """
    result = None
    with (
        on_cores(layout.generator),
        subprocess.Popen(  # noqa: S603 - our own program
            stream.command, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process,
        _at_most(stream.seconds + PATIENCE_S + START_S, process),
    ):
        for line in process.stdout or ():
            if line.strip() == SENT:
                afterwards()
            else:
                result = json.loads(line)
    if result is None:
        raise RuntimeError("the generator has failed")
    fates = result.get("fates")
    return Outcome(Figures(**result["figures"]), Fates(**fates) if fates else None)


@contextmanager
def _at_most(seconds: float, process: "subprocess.Popen[str]") -> Iterator[None]:
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
