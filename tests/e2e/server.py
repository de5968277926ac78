"""A real server process for the end-to-end ring."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 30.0
STOP_WITHIN_S = 30.0


class Process:
    """``hourglass serve`` on a free port, its log lines, and a client for it.

    Args:
        arguments: Flags of ``hourglass serve``.
        models: The repository.
        module: What is run instead of the service itself.
    """

    def __init__(self, *arguments: str, models: Path, module: str = "service") -> None:
        clean = {name: value for name, value in os.environ.items() if "HOURGLASS" not in name}
        command = [sys.executable, "-m", module, "serve", "--port", "0", "--models", str(models)]
        self._popen = subprocess.Popen(
            [*command, *arguments], stderr=subprocess.PIPE, text=True, env=clean, cwd=ROOT
        )
        self.lines: list[dict[str, Any]] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def url(self) -> str:
        assert self._listening.wait(START_WITHIN_S), self.lines
        line = next(line for line in self.lines if line["message"] == "listening")
        return f"http://127.0.0.1:{line['port']}"

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=START_WITHIN_S, trust_env=False, **options)

    def wait_until_ready(self) -> None:
        with self.client() as client:
            deadline = time.monotonic() + START_WITHIN_S
            while client.get("/readyz").status_code != 200:
                assert time.monotonic() < deadline, self.lines
                time.sleep(0.01)

    def terminate(self) -> None:
        self._popen.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        status = self._popen.wait(STOP_WITHIN_S)
        self._reader.join(STOP_WITHIN_S)
        return status

    def kill(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait(STOP_WITHIN_S)
        self._reader.join(STOP_WITHIN_S)
        if self._popen.stderr is not None:
            self._popen.stderr.close()

    def _read(self) -> None:
        assert self._popen.stderr is not None
        for text in self._popen.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["message"] == "listening":
                self._listening.set()
        self._listening.set()


@contextmanager
def process(
    *arguments: str, models: Path, ready: bool = True, module: str = "service"
) -> Iterator[Process]:
    """Run a server for a test, and make sure that it is gone afterwards."""
    server = Process(*arguments, models=models, module=module)
    try:
        if ready:
            server.wait_until_ready()
        yield server
    finally:
        server.kill()
