"""Every operation with every body and every answer, bit for bit as ONNX Runtime gives it."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from service.assembly import make_graphs
from service.repository.packages import Location, read_package
from service.scoring.calibration import read_calibration
from tests.api import wire
from tests.api.wire import JSON, NPY, PNG, RAW

FIELDS = {
    "encode": "codes",
    "decode": "reconstructions",
    "reconstruct": "reconstructions",
    "anomaly-score": "scores",
}
GRAPHS = {
    "encode": "encode",
    "decode": "decode",
    "reconstruct": "reconstruct",
    "anomaly-score": "score",
}
PLAIN = ("json", "json-flat", "npy", "raw")
PICTURES = ("png", "jpeg", "webp", "form")
PIXELS = np.random.default_rng(11).integers(0, 256, (3, 4, 4), dtype=np.uint8)


@dataclass(frozen=True)
class Sent:
    """A request, and the rows that are in it."""

    request: dict[str, Any]
    rows: np.ndarray


def send(body: str, rows: np.ndarray) -> Sent:
    """Put *rows* into a body, or as many of them as it holds."""
    flat = rows.reshape(len(rows), -1)
    match body:
        case "json":
            return Sent({"json": {"inputs": rows.tolist()}}, rows)
        case "json-flat":
            return Sent({"json": {"inputs": flat.tolist()}}, rows)
        case "npy":
            return Sent({"content": wire.npy(rows), "headers": {"content-type": NPY}}, rows)
        case "raw":
            return Sent({"content": rows.tobytes(), "headers": {"content-type": RAW}}, rows)
        case "form":
            files = wire.form(*(wire.picture(each) for each in PIXELS))
            return Sent({"files": files}, levels(PIXELS))
    data = wire.picture(PIXELS[0], body.upper())
    sent = {"content": data, "headers": {"content-type": f"image/{body}"}}
    # a lossy picture holds what its decoder makes of it
    grey = wire.pixels(data) if body != "webp" else webp_grey(data)
    return Sent(sent, levels(grey[np.newaxis]))


def webp_grey(data: bytes) -> np.ndarray:
    """WebP has no grey mode: its colours are weighed as Pillow weighs them."""
    colours = wire.pixels(data).astype(np.int64)
    weighed: np.ndarray = (colours @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    return weighed


def levels(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255).astype(np.float32)[:, np.newaxis]


@cache
def package(zoo: Path, model: str) -> Any:
    return read_package(Location(model, 1, zoo / model / "1"))


@cache
def session(zoo: Path, model: str, operation: str) -> ort.InferenceSession:
    graph = getattr(make_graphs(package(zoo, model)), GRAPHS[operation])
    return ort.InferenceSession(graph, providers=["CPUExecutionProvider"])


def direct(zoo: Path, model: str, operation: str, rows: np.ndarray) -> np.ndarray:
    """ONNX Runtime itself, without anything of the service in between."""
    answer: np.ndarray = session(zoo, model, operation).run(
        None, {"code" if operation == "decode" else "input": rows}
    )[0]
    return answer


def sample(model: str, operation: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    if model == "mixed":
        return rng.random((3, 3 if operation == "decode" else 6), np.float32)
    return rng.random((3, 1, 4, 4), np.float32)


def matrix() -> Iterator[Any]:
    for model, operation in product(("mixed", "picture"), FIELDS):
        has_pictures = model == "picture"
        bodies = PLAIN + PICTURES if has_pictures and operation != "decode" else PLAIN
        answers = (JSON, NPY, RAW, PNG) if has_pictures and operation != "encode" else PLAIN_ANSWERS
        for body, answer in product(bodies, answers):
            name = f"{model}-{operation}-{body}-{answer.partition('/')[2]}"
            yield pytest.param(model, operation, body, answer, id=name)


PLAIN_ANSWERS = (JSON, NPY, RAW)


@pytest.mark.parametrize(("model", "operation", "body", "accept"), [*matrix()])
def test_an_answer_has_the_bits_of_onnx_runtime(  # noqa: PLR0917 - a matrix
    client, zoo, model, operation, body, accept
):
    sent = send(body, sample(model, operation))
    wanted = direct(zoo, model, operation, sent.rows)
    headers = {**sent.request.get("headers", {}), "accept": accept}

    answer = client.post(wire.url(model, operation), **{**sent.request, "headers": headers})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == accept
    if accept == PNG:
        assert_pixels(answer.content, drawn(zoo, model, operation, sent.rows, wanted))
    else:
        assert_same_bits(read(answer, accept, FIELDS[operation]), wanted)


def read(answer: Any, accept: str, field: str) -> np.ndarray:
    if accept == JSON:
        return np.array(answer.json()[field], np.float32)
    if accept == NPY:
        array: np.ndarray = np.load(io.BytesIO(answer.content), allow_pickle=False)
        return array
    shape = [int(axis) for axis in answer.headers["x-shape"].split(",")]
    return np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)


def drawn(
    zoo: Path, model: str, operation: str, rows: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """The picture of an answer by the contract's formula."""
    values, high = wanted, 1.0
    if operation == "anomaly-score":
        reconstructions = direct(zoo, model, "reconstruct", rows)
        values = np.square(rows - reconstructions)
        found = package(zoo, model)
        high = read_calibration(found.files[found.manifest.calibration.file]).heat_map_high
    tiles = np.rint(255 * np.clip(values.astype(np.float64) / high, 0, 1))
    return wire.sheet([tile[0] for tile in tiles])


def assert_same_bits(got: np.ndarray, wanted: np.ndarray) -> None:
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    assert got.tobytes() == wanted.tobytes()


def assert_pixels(data: bytes, wanted: np.ndarray) -> None:
    got = wire.pixels(data)
    assert got.dtype == np.uint8
    assert np.array_equal(got, wanted)


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        pytest.param("gzip", gzip.compress, id="gzip"),
        pytest.param("deflate", zlib.compress, id="deflate"),
        pytest.param("identity", bytes, id="identity"),
    ],
)
@pytest.mark.parametrize("media", [JSON, NPY, RAW])
def test_a_compressed_body_is_the_body(client, zoo, encoding, compress, media):
    rows = sample("mixed", "encode")
    plain = {
        JSON: json.dumps({"inputs": rows.tolist()}).encode(),
        NPY: wire.npy(rows),
        RAW: rows.tobytes(),
    }[media]
    headers = {"content-type": media, "content-encoding": encoding, "accept": NPY}

    answer = client.post("/v1/models/mixed/encode", content=compress(plain), headers=headers)

    assert_same_bits(read(answer, NPY, "codes"), direct(zoo, "mixed", "encode", rows))


def test_the_order_of_the_parts_is_the_order_of_the_rows(client):
    files = wire.form(*(wire.picture(np.full((4, 4), level, np.uint8)) for level in (200, 0, 100)))

    answer = client.post("/v1/models/picture/encode", files=files)

    first = [row[0][0][0] for row in answer.json()["codes"]]
    assert first == pytest.approx([100 / 255, 0, 50 / 255])


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_several_pictures_come_as_one_contact_sheet(client, rows):
    inputs = np.random.default_rng(rows).random((rows, 1, 4, 4), np.float32)

    answer = client.post(
        "/v1/models/picture/reconstruct", json={"inputs": inputs.tolist()}, headers={"accept": PNG}
    )

    tiles = np.rint(255 * np.clip(inputs.astype(np.float64) / 2, 0, 1))
    assert_pixels(answer.content, wire.sheet([tile[0] for tile in tiles]))


def test_a_batch_larger_than_the_largest_run_is_split_and_joined_in_order(client, zoo):
    rows = np.random.default_rng(3).random((1000, 6), np.float32)

    answer = client.post(
        "/v1/models/mixed/encode",
        content=rows.tobytes(),
        headers={"content-type": RAW, "accept": NPY},
    )

    wanted = direct(zoo, "mixed", "encode", rows)
    np.testing.assert_allclose(read(answer, NPY, "codes"), wanted, rtol=1e-5, atol=1e-6)


def test_a_float_in_json_reads_back_as_the_same_float32_and_is_no_longer_than_needed(client):
    rows = np.array([[0.1, 1 / 3, 0, 0], [1e-20, 16777217, 0, 0], [-3.4e38, 7, 0, 0]], np.float32)

    answer = client.post("/v1/models/plain/encode", json={"inputs": rows.tolist()})

    assert_same_bits(np.array(answer.json()["codes"], np.float32), rows[:, :2])
    assert b"[0.1,0.33333334]" in answer.content


def test_integers_of_64_bits_pass_through_no_float(client):
    exact = [2**53 + 1, -(2**62) - 1]

    answer = client.post("/v1/models/integers/encode", json={"inputs": [exact]})

    assert answer.json()["codes"] == [exact]


def test_a_double_is_rounded_to_the_models_float(client):
    body = wire.npy(np.array([[0.1, 0.2, 0.3, 0.4]], np.float64))

    answer = client.post(
        "/v1/models/tabular/encode", content=body, headers={"content-type": NPY, "accept": NPY}
    )

    assert_same_bits(read(answer, NPY, "codes"), np.array([[0.1, 0.2]], np.float32))


def test_free_axes_take_their_shape_from_the_header(client):
    rows = np.random.default_rng(0).random((2, 1, 3, 5), np.float32)
    headers = {"content-type": RAW, "x-shape": "2,1,3,5", "accept": RAW}

    answer = client.post("/v1/models/any-size/encode", content=rows.tobytes(), headers=headers)

    assert answer.headers["x-shape"] == "2,1,3,5"
    assert_same_bits(read(answer, RAW, "codes"), rows / 2)


def test_free_axes_take_a_picture_of_any_size(client):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)

    answer = client.post(
        "/v1/models/any-size/reconstruct",
        content=wire.picture(pixels),
        headers={"content-type": PNG, "accept": RAW},
    )

    assert answer.headers["x-shape"] == "1,1,5,7"


def test_a_picture_of_another_size_is_resized_when_asked(client):
    picture = wire.picture(np.full((8, 6), 255, np.uint8))

    answer = client.post(
        "/v1/models/picture/encode?resize=true", content=picture, headers={"content-type": PNG}
    )

    assert answer.json()["codes"] == [np.full((1, 4, 4), 0.5).tolist()]


def test_the_scale_of_a_picture_does_not_depend_on_its_values(client):
    dark, bright = (wire.picture(np.full((4, 4), level, np.uint8)) for level in (1, 255))

    answers = [
        client.post("/v1/models/picture/encode", content=data, headers={"content-type": PNG})
        for data in (dark, bright)
    ]

    values = [answer.json()["codes"][0][0][0][0] for answer in answers]
    assert values == [pytest.approx(0.5 / 255), 0.5]


def test_the_content_type_may_have_parameters_and_any_case(client):
    headers = {"content-type": "Application/JSON; charset=utf-8"}

    answer = client.post(
        "/v1/models/tabular/encode", content=b'{"inputs": [[1, 0, 0, 0]]}', headers=headers
    )

    assert answer.json()["codes"] == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        pytest.param("*/*", JSON, id="anything"),
        pytest.param("text/html, application/x-npy;q=0.5", NPY, id="the second wish"),
        pytest.param("image/*", PNG, id="any picture"),
        pytest.param("application/json;q=0.1, application/octet-stream", RAW, id="by quality"),
        pytest.param("application/*", JSON, id="any of a kind"),
    ],
)
def test_accept_chooses_the_answer(client, accept, given):
    body = {"inputs": np.zeros((1, 1, 4, 4)).tolist()}

    answer = client.post("/v1/models/picture/reconstruct", json=body, headers={"accept": accept})

    assert answer.headers["content-type"] == given
