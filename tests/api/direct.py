"""What a request holds and what its answer must be, by ONNX Runtime and the contract's formulas.

Nothing here goes through the service but two things that have tests of their own: reading a
package, and the graph of the score, whose bits no other formula gives.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from service.blueprint import make_graphs
from service.repository.packages import Package, find_location, read_package
from service.scoring.calibration import read_calibration
from service.specs import ImageSpec, TensorSpec
from tests.api import wire
from tests.api.wire import JSON, NPY, RAW

FIELDS = {
    "encode": "codes",
    "decode": "reconstructions",
    "reconstruct": "reconstructions",
    "anomaly-score": "scores",
}
PICTURES = ("png", "jpeg", "webp", "form")
ROWS = 3

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sent:
    """A request, and the rows that are in it."""

    request: dict[str, Any]
    rows: Array


@cache
def package(models: Path, model: str) -> Package:
    """Read the version that answers."""
    return read_package(find_location(models, model))


def input_of(models: Path, model: str, operation: str) -> TensorSpec:
    manifest = package(models, model).manifest
    return manifest.code or manifest.input if operation == "decode" else manifest.input


@cache
def _session(models: Path, model: str, part: str) -> ort.InferenceSession:
    found = package(models, model)
    if part == "score":
        graph = make_graphs(found).score
    else:
        graph = found.files[getattr(found.manifest.graphs, part)]
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, rows: Array) -> Array:
    answer: Array = session.run(None, {session.get_inputs()[0].name: rows})[0]
    return answer


def direct(models: Path, model: str, operation: str, rows: Array) -> Array:
    """ONNX Runtime itself on the files of the package, one after the other."""
    parts = {
        "encode": ["encoder"],
        "decode": ["decoder"],
        "reconstruct": ["encoder", "decoder"],
        "anomaly-score": ["score"],
    }
    for part in parts[operation]:
        rows = _run(_session(models, model, part), rows)
    return rows


def sample(spec: TensorSpec, *, rows: int = ROWS) -> Array:
    """Random rows that a model takes; most integers of 64 bits are beyond what floats can say."""
    rng = np.random.default_rng(7)
    shape = (rows, *(5 if axis is None else axis for axis in spec.shape))
    if spec.numpy_dtype.kind == "f":
        low, high = spec.range or (0.0, 1.0)
        return (low + (high - low) * rng.random(shape)).astype(spec.dtype)
    if spec.range is not None:
        return rng.integers(int(spec.range[0]), int(spec.range[1]) + 1, shape).astype(spec.dtype)
    limits = np.iinfo(spec.numpy_dtype)
    low, high = max(limits.min, -(2**60)), min(limits.max, 2**60)  # squares fit into float32
    return rng.integers(low, high, shape, spec.numpy_dtype, endpoint=True)


def send(body: str, spec: TensorSpec) -> Sent:
    """Make a body of a kind for a model, or of the next best rows where it takes none such."""
    if body in PICTURES:
        return _send_pictures(body, spec)
    rows = sample(spec)
    match body:
        case "json":
            return Sent({"json": {"inputs": rows.tolist()}}, rows)
        case "json-flat":
            return Sent({"json": {"inputs": rows.reshape(len(rows), -1).tolist()}}, rows)
        case "npy":
            return Sent(_body(wire.npy(rows), NPY), rows)
    shape = {} if spec.is_fixed else {"x-shape": ",".join(map(str, rows.shape))}
    return Sent(_body(rows.tobytes(), RAW, **shape), rows)


def _body(content: bytes, media: str, **headers: str) -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": media, **headers}}


def _send_pictures(body: str, spec: TensorSpec) -> Sent:
    image = spec.image or ImageSpec()
    width, height = image.size(spec.shape) if spec.image else (4, 4)
    size = (ROWS, height or 5, width or 5, *([3] if image.mode == "RGB" else []))
    pixels = np.random.default_rng(11).integers(0, 256, size, dtype=np.uint8)
    if body == "form":
        files = wire.form(*(wire.picture(each) for each in pixels))
        return Sent({"files": files}, levels(pixels, spec))
    data = wire.picture(pixels[0], body.upper())
    # a lossy picture holds what its decoder makes of it
    shown = wire.pixels(data)
    if shown.ndim > pixels[0].ndim:  # WebP has no grey mode
        shown = wire.luma(shown)
    return Sent(_body(data, f"image/{body}"), levels(shown[np.newaxis], spec))


def levels(pixels: Array, spec: TensorSpec) -> Array:
    """Rows of pictures whose channels lie last, by the contract's formula."""
    low, high = spec.range or (0.0, 1.0)
    values = low + (high - low) * (pixels / 255)
    rows = (np.rint(values) if spec.numpy_dtype.kind != "f" else values).astype(spec.dtype)
    match spec.image:
        case ImageSpec(mode="L", layout="CHW"):
            return rows[:, np.newaxis]
        case ImageSpec(mode="L", layout="HWC"):
            return rows[..., np.newaxis]
        case ImageSpec(layout="CHW"):
            return np.ascontiguousarray(np.moveaxis(rows, -1, 1))
    return rows


def read(answer: Any, accept: str, field: str, dtype: np.dtype[Any]) -> Array:
    """The array in an answer."""
    if accept == JSON:
        return np.array(answer.json()[field], dtype)
    if accept == NPY:
        array: Array = np.load(io.BytesIO(answer.content), allow_pickle=False)
        return array
    shape = [int(axis) for axis in filter(None, answer.headers["x-shape"].split(","))]
    return np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)


def drawn(models: Path, model: str, operation: str, sent: Sent) -> Array:
    """The picture of an answer by the contract's formula."""
    found = package(models, model)
    spec = found.manifest.input
    (low, high), rows = spec.range or (0.0, 1.0), sent.rows
    values = direct(models, model, "decode" if operation == "decode" else "reconstruct", rows)
    if operation == "anomaly-score":
        difference = rows.astype(np.float32) - values.astype(np.float32)
        values = np.square(difference / np.float32(high - low))
        assert found.manifest.calibration is not None
        calibration = read_calibration(found.files[found.manifest.calibration.file])
        low, high = 0.0, calibration.heat_map_high
    tiles = channels_last(values, spec)
    if operation == "anomaly-score":
        tiles = tiles.mean(axis=-1)
    share = (tiles.astype(np.float64) - low) / (high - low)
    return wire.sheet([*np.rint(255 * np.clip(share, 0, 1))])


def channels_last(rows: Array, spec: TensorSpec) -> Array:
    """Rows as pictures of height, width and channels."""
    match spec.image:
        case ImageSpec(layout="CHW"):
            return np.moveaxis(rows, 1, -1)
        case ImageSpec(layout="HW"):
            return rows[..., np.newaxis]
    return rows


def assert_same_bits(got: Array, wanted: Array) -> None:
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert got.tobytes() == wanted.tobytes()


def assert_pixels(data: bytes, wanted: Array) -> None:
    got = wire.pixels(data)
    assert got.dtype == np.uint8
    assert np.array_equal(got, wanted)
