"""Plain HTTP clients with the v1 interface: requests, httpx, aiohttp, and fetch of Node.js."""

import asyncio
import gzip
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import requests

from tests.interop.checks import MODEL, PICTURES, Checks, Task, equal, main, must, same_bits

NPY = "application/x-npy"
RAW = "application/octet-stream"
# so many that their JSON is worth compressing
MANY = 40


@dataclass(frozen=True)
class Answer:
    """What each of the clients gives in its own way."""

    status: int
    headers: Any
    content: bytes


Files = list[tuple[str, bytes]]
Post = Callable[..., Answer]


def check_client(checks: Checks, task: Task) -> None:
    """Send every kind of body with every client."""
    with requests.Session() as session:
        _check_bodies(checks, task, "requests", _with_requests(session))
    with httpx.Client(trust_env=False) as client:
        _check_bodies(checks, task, "httpx", _with_httpx(client))
    _check_bodies(checks, task, "aiohttp", _with_aiohttp)
    _check_fetch(checks, task)


def _with_requests(session: requests.Session) -> Post:
    def post(url: str, body: bytes, headers: dict[str, str], files: Files | None = None) -> Answer:
        parts = [("file", file) for file in files] if files else None
        got = session.post(url, data=body, headers=headers, files=parts, timeout=30)
        return Answer(got.status_code, got.headers, got.content)

    return post


def _with_httpx(client: httpx.Client) -> Post:
    def post(url: str, body: bytes, headers: dict[str, str], files: Files | None = None) -> Answer:
        parts = [("file", file) for file in files] if files else None
        got = client.post(url, content=None if files else body, headers=headers, files=parts)
        return Answer(got.status_code, got.headers, got.content)

    return post


def _with_aiohttp(
    url: str, body: bytes, headers: dict[str, str], files: Files | None = None
) -> Answer:
    data: Any = body
    if files:
        data = aiohttp.FormData()
        for name, content in files:
            data.add_field("file", content, filename=name)

    async def post() -> Answer:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=data, headers=headers) as got,
        ):
            return Answer(got.status, got.headers, await got.read())

    return asyncio.run(post())


def _check_bodies(checks: Checks, task: Task, name: str, post: Post) -> None:
    url = f"{task.url}/v1/models/{MODEL}"
    rows, code = task.wanted["rows"], task.wanted["code"]
    with checks.check(f"{name}: JSON"):
        answer = post(f"{url}/encode", _json(rows), {"Content-Type": "application/json"})
        same_bits(_codes(answer), code)
    with checks.check(f"{name}: npy"):
        answer = post(f"{url}/encode", _npy(rows), {"Content-Type": NPY, "Accept": NPY})
        equal(answer.status, 200, "the status")
        same_bits(np.load(io.BytesIO(answer.content)), code)
    with checks.check(f"{name}: raw"):
        answer = post(f"{url}/encode", rows.tobytes(), {"Content-Type": RAW, "Accept": RAW})
        equal((answer.headers["X-Shape"], answer.headers["X-Dtype"]), ("5,32", "float32"))
        same_bits(np.frombuffer(answer.content, np.float32).reshape(5, 32), code)
    with checks.check(f"{name}: a picture, and two in a form"):
        body = PICTURES[0].read_bytes()
        seven = post(f"{url}/encode", body, {"Content-Type": "image/png"})
        files = [(picture.name, picture.read_bytes()) for picture in PICTURES]
        both = post(f"{url}/encode", b"", {}, files)
        equal(_codes(both).shape, (2, 32))
        same_bits(_codes(both)[:1], _codes(seven))
    with checks.check(f"{name}: a request in gzip"):
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        same_bits(_codes(post(f"{url}/encode", gzip.compress(_json(rows)), headers)), code)
    with checks.check(f"{name}: a large answer comes in gzip and is read by the client"):
        many = np.tile(rows, (MANY // len(rows), 1, 1, 1))
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        answer = post(f"{url}/reconstruct", _json(many), headers)
        equal(answer.headers.get("Content-Encoding"), "gzip", "Content-Encoding")
        got = np.array(json.loads(answer.content)["reconstructions"], np.float32)
        same_bits(got[: len(rows)], task.wanted["reconstruction"])
    with checks.check(f"{name}: an error"):
        answer = post(f"{url}/encode", b"{", {"Content-Type": "application/json"})
        equal((answer.status, json.loads(answer.content)["status"]), (400, 400))
    with checks.check(f"{name}: a body above the limit is an error, and no broken connection"):
        answer = post(f"{url}/encode", bytes(12_000 * rows[0].nbytes), {"Content-Type": RAW})
        equal((answer.status, json.loads(answer.content)["status"]), (413, 413))


def _json(rows: np.ndarray) -> bytes:
    return json.dumps({"inputs": rows.tolist()}).encode()


def _npy(rows: np.ndarray) -> bytes:
    body = io.BytesIO()
    np.save(body, rows)
    return body.getvalue()


def _codes(answer: Answer) -> np.ndarray:
    must(answer.status == 200, answer.content)
    return np.array(json.loads(answer.content)["codes"], np.float32)


def _check_fetch(checks: Checks, task: Task) -> None:
    node = shutil.which("node")
    if node is None:
        checks.skip("fetch", "there is no node")
        return
    wanted = task.folder / "wanted.json"
    arrays = {name: task.wanted[name].tolist() for name in ("rows", "code")}
    wanted.write_text(json.dumps(arrays), encoding="utf-8")
    with checks.check("fetch: JSON, raw, a picture, gzip, an error"):
        script = Path(__file__).parent / "fetch.mjs"
        done = subprocess.run(
            [node, script, f"{task.url}/v1/models/{MODEL}", wanted, PICTURES[0]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        must(done.returncode == 0, done.stdout + done.stderr)


if __name__ == "__main__":
    main(check_client)
