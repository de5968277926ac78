"""Clients of every kind, so that every metric of the service moves."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np

from tests import tiny
from tests.e2e.server import Process

# two requests to the slow model may wait while another runs, the next is refused
LIMITS = (
    *("--max-queue-rows", "4", "--max-request-rows", "4", "--max-batch-rows", "2"),
    *("--drain-delay-ms", "0"),
)
SLOW_CLIENTS = 8
NORMAL, ODD, WRONG = [[0.5, 0.5, 0.1, 0.1]], [[0.5, 0.5, 1.0, 1.0]], [[0.5, 0.5]]


def write_models(folder: Path) -> Path:
    """A calibrated model, and one that takes its time."""
    tiny.write_tabular(folder)
    tiny.write(
        folder,
        tiny.slow(turns=20_000),
        np.ones((1, 4), np.float32),
        name="slow",
        code_shape=(4,),
    )
    return folder


@contextmanager
def load(server: Process) -> Iterator[None]:
    """Keep the server busy from several threads until the block ends."""
    is_over = threading.Event()
    kinds = (_answered, _wrong, *[_slow] * SLOW_CLIENTS)
    threads = [threading.Thread(target=_repeat, args=(kind, server, is_over)) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(30)


def _repeat(
    kind: Callable[[httpx2.Client], None], server: Process, is_over: threading.Event
) -> None:
    with server.client() as client:
        while not is_over.wait(0.01):
            kind(client)


def _answered(client: httpx2.Client) -> None:
    for operation, rows in (
        ("encode", NORMAL * 2),
        ("decode", [[0.5, 0.5]]),
        ("reconstruct", NORMAL * 3),
        ("anomaly-score", NORMAL * 4),
        ("anomaly-score", NORMAL + ODD),
    ):
        url = f"/v1/models/tabular/{operation}"
        body = {"inputs": rows, "include": ["domain"]}
        client.post(url, json=body).raise_for_status()
        buffer = io.BytesIO()
        np.save(buffer, np.array(rows, np.float32))
        headers = {"content-type": "application/x-npy"}
        client.post(url, content=buffer.getvalue(), headers=headers).raise_for_status()


def _wrong(client: httpx2.Client) -> None:
    """Faults of the client, and the probe of an orchestrator."""
    client.post("/v1/models/tabular/encode", json={"inputs": WRONG})
    client.post("/v1/models/tabular/encode", content=b"{")
    client.post("/v1/models/unknown/encode", json={"inputs": NORMAL})
    client.get("/readyz")


def _slow(client: httpx2.Client) -> None:
    """More rows than find room, and a body that comes too late."""
    client.post("/v1/models/slow/encode", json={"inputs": NORMAL * 2})
    headers = {"content-type": "application/json", "x-request-timeout-ms": "1"}
    client.post("/v1/models/slow/encode", content=_hesitant(), headers=headers)


def _hesitant() -> Iterator[bytes]:
    """A body whose second half comes after the deadline, so that no run is ever stopped."""
    yield b'{"inputs": '
    time.sleep(0.02)
    yield b"[[0, 0, 0, 0]]}"
