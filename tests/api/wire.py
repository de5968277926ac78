"""Rows to bodies, answers to rows, and the numbers of a scrape: what a client would write."""

import io
from typing import Any

import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

JSON, NPY, RAW, PNG = (
    "application/json",
    "application/x-npy",
    "application/octet-stream",
    "image/png",
)


def url(model: str, operation: str, version: str | None = None) -> str:
    versions = "" if version is None else f"/versions/{version}"
    return f"/v1/models/{model}{versions}/{operation}"


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def picture(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def luma(colours: np.ndarray) -> np.ndarray:
    """Grey as Pillow weighs colours."""
    weighed: np.ndarray = (colours.astype(np.int64) @ np.array([19595, 38470, 7471])) + 0x8000
    return weighed >> 16


def form(*contents: bytes, name: str = "file") -> list[tuple[str, tuple[str, bytes, str]]]:
    return [(name, ("p", data, "application/octet-stream")) for data in contents]


def sheet(tiles: list[np.ndarray]) -> np.ndarray:
    """Lay tiles out as the contract says: ceil(sqrt(n)) columns, 2-pixel black gaps."""
    columns = int(np.ceil(np.sqrt(len(tiles))))
    lines = -(-len(tiles) // columns)
    tiles = [tile.reshape(tile.shape[:2]) if tile.shape[2:] == (1,) else tile for tile in tiles]
    height, width, *colours = tiles[0].shape
    size = (lines * height + 2 * (lines - 1), columns * width + 2 * (columns - 1))
    out = np.zeros((*size, *colours))
    for number, tile in enumerate(tiles):
        line, column = divmod(number, columns)
        top, left = line * (height + 2), column * (width + 2)
        out[top : top + height, left : left + width] = tile
    return out.astype(np.uint8)


def scrape(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a scrape by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of *name* with *labels*; 0 where there is none yet.

    Only their lines are parsed: a scrape of many models takes the parser a second.
    """
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    found = scrape("\n".join([*lines, ""]))
    wanted = set(labels.items())
    return sum(value for (_, have), value in found.items() if wanted <= have)


def number(client: Any, name: str, **labels: str) -> float:
    """The same of a running server."""
    return sample(client.get("/metrics").text, name, **labels)


def problem(answer: Any) -> dict[str, Any]:
    """The body of an error, after a look at what every error has."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) <= 4096
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= body.keys()
    assert body.keys() <= {*PROBLEM_FIELDS}
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


PROBLEM_FIELDS = (
    *("type", "title", "status", "detail", "request_id"),
    *("row", "expected", "received", "faults", "faults_total"),
)
