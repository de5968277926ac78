"""A server of one model, as a process of its own for the time of a measurement."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from service.errors import HourglassError
from service.repository.packages import Location
from service.settings import ENVIRONMENT_PREFIX, Settings

_START_WITHIN_S: Final = 120.0
_END_WITHIN_S: Final = 15.0
_ASK_EVERY_S: Final = 0.05

# what this server is asked is nobody else's, and has no key
_KEYS_FILE: Final = ENVIRONMENT_PREFIX + "API_KEYS_FILE"

_ADDRESS: Final = "127.0.0.1"
_OK: Final = 200


@contextmanager
def serving(
    location: Location, settings: Settings, *, within_s: float = _START_WITHIN_S
) -> Iterator[int]:
    """Serve one version on a free port of this machine; gives the port once it is ready.

    Raises:
        HourglassError: The server did not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="hourglass-bench-") as folder:
        models, log = Path(folder) / "models", Path(folder) / "log"
        # a server follows no links of packages
        shutil.copytree(location.folder, models / str(location), copy_function=_link_or_copy)
        with log.open("wb") as output:
            server = subprocess.Popen(  # noqa: S603 - this very program
                _command(location, settings, models),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name != _KEYS_FILE},
            )
        try:
            yield _ready_port(server, log, within_s)
        finally:
            _end(server)


def _link_or_copy(source: str, target: str) -> None:
    """Give a file a second name, or a copy where the other folder lies on another device."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask the server for a page."""
    connection = http.client.HTTPConnection(_ADDRESS, port, timeout=_END_WITHIN_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _command(location: Location, settings: Settings, models: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "service", "serve"),
        *("--host", _ADDRESS, "--port", "0", "--models", str(models)),
        *("--required-models", str(location)),
        *("--device", settings.device, "--device-id", str(settings.device_id)),
        *("--intra-op-threads", str(settings.intra_op_threads)),
        *("--max-batch-rows", str(settings.max_batch_rows)),
        *("--parallel-runs", str(settings.parallel_runs)),
        *("--log-format", "json", "--log-level", "info", "--drain-delay-ms", "0"),
    ]


def _ready_port(server: "subprocess.Popen[bytes]", log: Path, within_s: float) -> int:
    deadline = monotonic() + within_s
    port: int | None = None
    while monotonic() < deadline and server.poll() is None:
        port = port or _port_in(log)
        if port is not None and get(port, "/readyz")[0] == _OK:
            return port
        sleep(_ASK_EVERY_S)
    raise HourglassError("the server did not become ready; `hourglass check` may say why")


def _port_in(log: Path) -> int | None:
    """Find the line that says where the server listens."""
    for line in log.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a line that is half written yet
            continue
        if entry.get("message") == "listening":
            return int(entry["port"])
    return None


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
