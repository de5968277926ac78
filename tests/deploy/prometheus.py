"""A real Prometheus over the project's own rules, and the questions that can be put to it."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx2

Json: TypeAlias = dict[str, Any]

RULES = Path(__file__).parents[2] / "deploy" / "prometheus"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
WITHIN_S = 25.0


class Prometheus:
    """The HTTP interface of a running Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=WITHIN_S, trust_env=False)

    def query(self, expression: str) -> list[Json]:
        """The series with a value; those that are not a number are none that anybody could see."""
        found: list[Json] = self._get("query", query=expression)["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    def wait_for(self, expression: str, *, at_least: int = 1) -> list[Json]:
        """Ask until so many series are there, or the time is up."""
        deadline = time.monotonic() + WITHIN_S
        while len(found := self.query(expression)) < at_least and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def values_of(self, label: str, series: str) -> list[str]:
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": series})
        return found

    def rules(self) -> list[Json]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def close(self) -> None:
        self._client.close()

    def _get(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus for a test: it scrapes *target* and looks at the rules once a second."""
    assert PROMETHEUS is not None
    port = _free_port()
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(_config(target)))  # JSON is YAML too
    command = [
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as sink:
        process = subprocess.Popen(command, stderr=sink, cwd=folder)
    server = Prometheus(f"http://127.0.0.1:{port}")
    try:
        _wait(lambda: process.poll() is not None or server.is_ready())
        assert process.poll() is None, log.read_text()
        yield server
    finally:
        server.close()
        process.kill()
        process.wait(WITHIN_S)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=RULES, capture_output=True, text=True, timeout=60, check=False
    )


def _config(target: str) -> Json:
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES / "recording.yml"), str(RULES / "alerts.yml")],
        "scrape_configs": [{"job_name": "hourglass", "static_configs": [{"targets": [target]}]}],
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
