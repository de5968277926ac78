"""Slow clients: does the service stay quick for the others, and does it get rid of them in time.

    python -m benchmarks.slow_clients             two and a half minutes; needs slowhttptest

500 connections send their heads slowly, or their bodies, or read their answers slowly
(slowhttptest, https://github.com/shekyan/slowhttptest), while others ask for the score of one row
in an open loop. Those must be answered with a p99 of at most twice their own without the attack,
and no slow connection may be left when its deadline has passed. Exit status 1 if not.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from benchmarks.cases import DENSE, RAW_1, Layout, layouts
from benchmarks.generator import Figures
from benchmarks.load import Target
from benchmarks.markdown import table
from benchmarks.proc import on_cores
from benchmarks.servers import ANSWER_WITHIN_S, AS_IT_COMES, ask, running
from benchmarks.streams import Stream, generate
from benchmarks.workload import make_workload
from service.doorkeeper import LOOK_AFTER_S
from service.settings import Settings

CONNECTIONS: Final = 500
PER_SECOND: Final = 250
# of those who must not suffer
RATE: Final = 200
SECONDS: Final = 8.0
TURNS: Final = 3
WARM_UP_REQUESTS: Final = 50
MAX_TIMES: Final = 2.0
# above this the machine was busy with something else
MAX_LAG_MS: Final = 2.0
# uvicorn's, between two requests
KEEP_ALIVE_S: Final = 5.0
# the tester has to be started, and the machine is busy with it
GRACE_S: Final = 3.0
# of its connections that must have come for it to be an attack; some break on a busy machine
MOST: Final = 0.9
LOOK_EVERY_S: Final = 0.1

_OPEN: Final = re.compile(rb"^hourglass_connections (\S+)$", re.MULTILINE)

HEAD: Final = (
    "slow", "p99 ms alone", "p99 ms beside", "times", "lag p99 ms", "failed",
    "most open", "all closed after s", "allowed s", "verdict",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to be slow.

    Attributes:
        options: Of slowhttptest.
        path: What is asked for; the operation that the others ask for unless given.
        deadline_s: When a connection must be closed, from its beginning.
    """

    name: str
    options: Sequence[str]
    deadline_s: float
    path: str | None = None

    @property
    def allowed_s(self) -> float:
        """How long it may last until the last connection is closed."""
        return CONNECTIONS / PER_SECOND + self.deadline_s + LOOK_AFTER_S + GRACE_S


@dataclass(frozen=True, slots=True)
class Course:
    """How an attack went, as the server saw it.

    The attackers hear of it later: what had reached them before is read first, as slowly as ever.

    Attributes:
        most: Connections that were open when all had come.
        lasted_s: From the first connection until the last one was closed; infinite if it was not.
    """

    most: int
    lasted_s: float


@dataclass(frozen=True, slots=True)
class Turn:
    """The others alone and beside an attack, and how the attack went."""

    alone: Figures
    beside: Figures
    course: Course


def attacks(settings: Settings) -> list[Attack]:
    """List the three, with the deadlines that follow from *settings*."""
    head_s, send_s = settings.header_timeout_ms / 1e3, settings.send_timeout_ms / 1e3
    body = ("-B", "-s", "3136", "-x", "10", "-f", "application/octet-stream")
    # the longest answer to a GET, of which a client takes 32 bytes a second
    read = ("-X", "-n", "1", "-z", "32", "-w", "512", "-y", "1024")
    script = "/static-offline-docs/swagger-ui-bundle.js"
    return [
        Attack("heads", ("-H", "-x", "24"), head_s),
        Attack("bodies", body, settings.request_timeout_s),
        Attack("readers", read, KEEP_ALIVE_S + send_s, script),
    ]


class Attacker:
    """Slowhttptest while it runs."""

    def __init__(self, attack: Attack, target: Target, layout: Layout) -> None:
        self._attack = attack
        self._target = target
        parts = urlsplit(target.url)
        url = f"http://{parts.netloc}{attack.path or parts.path}"
        # on the server's core, which is nearly idle, and behind it: the generator needs its own,
        # or its lateness would be taken for the server's
        command = [
            "nice",
            "-n",
            "19",
            find_slowhttptest(),
            *attack.options,
            "-u",
            url,
            "-l",
            "600",
            "-v",
            "0",
        ]
        command += ["-c", str(CONNECTIONS), "-r", str(PER_SECOND), "-i", "1"]
        self._before = open_connections(target)
        self._started = time.monotonic()
        with on_cores(layout.server):
            self._popen = subprocess.Popen(  # noqa: S603 - the tester
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

    def wait_until_all_are_there(self) -> int:
        """Wait until all have come, and give how many that are."""
        time.sleep(CONNECTIONS / PER_SECOND + 1)
        return open_connections(self._target) - self._before

    def wait_until_all_are_gone(self) -> float:
        """Wait until none is left, and give the seconds since the beginning."""
        while open_connections(self._target) > self._before:
            if time.monotonic() - self._started > 2 * self._attack.allowed_s:
                return float("inf")
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - self._started

    def stop(self) -> None:
        self._popen.terminate()
        self._popen.wait()


def open_connections(target: Target) -> int:
    """Ask the server how many connections it has."""
    parts = urlsplit(target.url)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{parts.netloc}/metrics", timeout=ANSWER_WITHIN_S) as answer:
        found = _OPEN.search(answer.read())
    if found is None:
        raise RuntimeError("the server does not count its connections")
    return int(float(found[1]))


def find_slowhttptest() -> str:
    """Find the tester.

    Raises:
        SystemExit: It is not installed.
    """
    path = shutil.which("slowhttptest")
    if path is None:
        raise SystemExit("this needs slowhttptest: apt-get install slowhttptest")
    return path


def measure(attack: Attack, target: Target, layout: Layout) -> Turn:
    """Ask alone, then beside *attack* from when all its connections are open."""
    stream = Stream(target, RATE, SECONDS)
    alone = generate(stream, layout).figures
    attacker = Attacker(attack, target, layout)
    try:
        most = attacker.wait_until_all_are_there()
        beside = generate(stream, layout).figures
        return Turn(alone, beside, Course(most, attacker.wait_until_all_are_gone()))
    finally:
        attacker.stop()


def is_well(attack: Attack, turns: Sequence[Turn]) -> bool:
    """Whether nobody else suffered, and nobody slow was left."""
    return (
        not is_void(turns)
        and times(turns) <= MAX_TIMES
        and all(
            turn.course.lasted_s <= attack.allowed_s
            and turn.course.most >= MOST * CONNECTIONS
            and turn.beside.errors == 0
            for turn in turns
        )
    )


def is_void(turns: Sequence[Turn]) -> bool:
    """Whether the generator was so late that latencies say nothing."""
    return median(turn.beside.lag_p99_ms for turn in turns) > MAX_LAG_MS


def times(turns: Sequence[Turn]) -> float:
    """Divide the medians of the p99."""
    alone, beside = (median(f.p99_ms for f in fs) for fs in _pairs(turns))
    return beside / alone


def row(attack: Attack, turns: Sequence[Turn]) -> list[str]:
    """Write a line of the table."""
    alone, beside = _pairs(turns)
    return [
        attack.name,
        f"{median(f.p99_ms for f in alone):.2f}",
        f"{median(f.p99_ms for f in beside):.2f}",
        f"{times(turns):.2f}",
        f"{max(f.lag_p99_ms for f in beside):.2f}",
        str(sum(f.errors for f in beside)),
        str(min(turn.course.most for turn in turns)),
        f"{max(turn.course.lasted_s for turn in turns):.1f}",
        f"{attack.allowed_s:.1f}",
        "well" if is_well(attack, turns) else "void" if is_void(turns) else "NOT WELL",
    ]


def _pairs(turns: Sequence[Turn]) -> tuple[list[Figures], list[Figures]]:
    return [turn.alone for turn in turns], [turn.beside for turn in turns]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--turns", type=int, default=TURNS, help="of each (default %(default)s)")
    parser.add_argument("--only", help="heads, bodies or readers")
    options = parser.parse_args(arguments)
    find_slowhttptest()
    layout = layouts()[0]
    found: dict[Attack, list[Turn]] = {}
    with tempfile.TemporaryDirectory(prefix="hourglass-slow-") as name:
        workload = make_workload(Path(name))
        with running(AS_IT_COMES, workload, DENSE, layout.server) as server:
            target = server.target(DENSE, RAW_1)
            for _ in range(WARM_UP_REQUESTS):
                ask(target)
            for attack in attacks(Settings()):
                if options.only in {None, attack.name}:
                    print(attack.name, file=sys.stderr)
                    found[attack] = [measure(attack, target, layout) for _ in range(options.turns)]
    print(table(HEAD, [row(attack, turns) for attack, turns in found.items()]))
    return 0 if all(is_well(attack, turns) for attack, turns in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
