"""The servers that are compared: how each is started, asked and stopped."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.cases import JSON, RAW_1, Kind
from benchmarks.load import Target
from benchmarks.proc import on_cores, pin
from benchmarks.workload import Workload

ROOT: Final = Path(__file__).parents[1]
HOURGLASS: Final = "Hourglass"
USUAL: Final = "usual"
BARE: Final = "bare"
DIRECT: Final = "direct"

START_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 15.0
ANSWER_WITHIN_S: Final = 10.0
# 128 clients of 64 rows each want more than the default queue holds
ROOM: Final = ("--max-queue-rows", "16384", "--max-queue-wait-ms", "60000")

# how often a server that starts is asked: the error of a start-up time
ASK_EVERY_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Contender:
    """A kind of server.

    Attributes:
        command: The arguments of Python that start it for a model on a port.
        path: Where it takes rows of a media type for a model.
        knows_models: Whether one process answers for any model, each by its own work.
        is_the_same_for_all: Whether one measurement holds for all models.
    """

    name: str
    command: Callable[[Workload, str, int], list[str]]
    path: Callable[[str, str], str]
    knows_models: bool = False
    is_the_same_for_all: bool = False


def _hourglass(workload: Workload, _model: str, port: int) -> list[str]:
    models = str(workload.repository)
    return ["service", "serve", "--device", "cpu", "--models", models, "--port", str(port)]


def _roomy(workload: Workload, model: str, port: int) -> list[str]:
    return [*_hourglass(workload, model, port), *ROOM]


def _usual(workload: Workload, model: str, port: int) -> list[str]:
    return ["benchmarks.contenders.usual", str(workload.autoencoders[model]), str(port)]


def _bare(_workload: Workload, _model: str, port: int) -> list[str]:
    return ["benchmarks.contenders.bare", str(port)]


CONTENDERS: Final = (
    Contender(
        HOURGLASS,
        _roomy,
        lambda model, _media: f"/v1/models/{model}/anomaly-score",
        knows_models=True,
    ),
    Contender(USUAL, _usual, lambda _model, media: "/score" if media == JSON else "/score/raw"),
    Contender(BARE, _bare, lambda _model, _media: "/", is_the_same_for_all=True),
)

# with its queue as it comes, where a full queue is what is looked at
AS_IT_COMES: Final = replace(CONTENDERS[0], command=_hourglass)


class Server:
    """A server process.

    Args:
        contender: What runs in it.
        workload: The files that it is given.
        model: The model that it is for, if it is for one only.
        cores: Where it may run.
    """

    def __init__(
        self, contender: Contender, workload: Workload, model: str, *, cores: AbstractSet[int]
    ) -> None:
        self.contender = contender
        self._workload = workload
        self._port = free_port()
        self._log = workload.repository.with_name(f"{contender.name}-{self._port}.log")
        command = contender.command(workload, model, self._port)
        self.started = time.perf_counter()
        with on_cores(cores), self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own servers
                [sys.executable, "-m", *command],
                stdout=log, stderr=log, cwd=ROOT, env=plain_environment(), start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._popen.pid

    def target(self, model: str, kind: Kind) -> Target:
        """Say where and what a generator should ask."""
        url = f"http://127.0.0.1:{self._port}{self.contender.path(model, kind.media)}"
        return Target(self.pid, url, self._workload.bodies[kind.name], kind.media)

    def wait_for_answer(self, model: str) -> float:
        """Ask for the score of one row until it comes; give the seconds since the start.

        Raises:
            RuntimeError: The process has ended, or does not answer in time.
        """
        while not ask(self.target(model, RAW_1)):
            if self._popen.poll() is not None:
                raise RuntimeError(f"{self.contender.name} has ended: {self._log.read_text()}")
            if time.perf_counter() - self.started > START_WITHIN_S:
                raise RuntimeError(f"{self.contender.name} does not answer")
            time.sleep(ASK_EVERY_S)
        return time.perf_counter() - self.started

    def stop(self) -> None:
        """End it without a farewell, and its children: nobody is being served."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(STOP_WITHIN_S)


@contextmanager
def running(
    contender: Contender, workload: Workload, model: str, cores: AbstractSet[int]
) -> Iterator[Server]:
    """Start a server, wait until it answers, and stop it in the end."""
    server = Server(contender, workload, model, cores=cores)
    try:
        server.wait_for_answer(model)
        pin(server.pid, cores)
        yield server
    finally:
        server.stop()


def ask(target: Target) -> bool:
    """Post one request; whether it was answered with success."""
    request = urllib.request.Request(  # noqa: S310 - http on this machine
        target.url,
        target.body.read_bytes(),
        {"Content-Type": target.media, "Accept": target.media},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_WITHIN_S) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004
    except (urllib.error.URLError, ConnectionError):
        return False


class Caller:
    """One client with a connection of its own, which asks for one thing again and again."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._body = target.body.read_bytes()
        self._headers = {"Content-Type": target.media, "Accept": target.media}
        self._connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=ANSWER_WITHIN_S
        )

    def call(self) -> tuple[int, float]:
        """Ask once; give the status, 0 without an answer, and the seconds that it took."""
        started = time.perf_counter()
        try:
            self._connection.request("POST", self._path, self._body, self._headers)
            answer = self._connection.getresponse()
            answer.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()  # the next request opens it again
            return 0, time.perf_counter() - started
        return answer.status, time.perf_counter() - started

    def close(self) -> None:
        self._connection.close()


def plain_environment() -> dict[str, str]:
    """Give the environment without settings of the service: what is measured are its defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOURGLASS_")}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
