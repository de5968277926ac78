"""Every operation with every body and every answer, for models of every kind.

What can be answered has the bits of ONNX Runtime, and what cannot is refused by the contract's
table. The models that stand for all others are also asked with compressed bodies and answers.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.specs import ImageSpec, TensorSpec
from tests import tiny
from tests.api import wire
from tests.api.direct import (
    FIELDS,
    PICTURES,
    Array,
    Sent,
    assert_pixels,
    assert_same_bits,
    direct,
    drawn,
    input_of,
    read,
    sample,
    send,
)
from tests.api.wire import JSON, NPY, PNG, RAW
from tests.conftest import serve

BODIES = ("json", "json-flat", "npy", "raw", *PICTURES)
ANSWERS = (JSON, NPY, RAW, PNG)

# tabular, picture, without a decoder, and what the project ships
EVERYWHERE = ("mixed", "picture", "encoder", "mnist-conv")

SMALL = (0.0, 255.0)
TYPED: dict[str, tuple[tuple[bytes, bytes], TensorSpec, TensorSpec]] = {
    dtype: (tiny.repeating(dtype), TensorSpec(dtype, (4,)), TensorSpec(dtype, (2,)))
    for dtype in ("float16", "float32", "float64", "uint8", "int64")
} | {
    "integer-codes": (
        tiny.levelling(),
        TensorSpec("float32", (4,), (0, 1)),
        TensorSpec("int64", (4,), (0, 7)),
    ),
    "no-axes": (
        tiny.halving([]),
        TensorSpec("float32", ()),
        TensorSpec("float32", ()),
    ),
    "free-axes": (
        tiny.turning("float32", [2, "length"], 2),
        TensorSpec("float32", (2, None)),
        TensorSpec("float32", (2, None)),
    ),
    "rgb-last-bytes": (
        tiny.turning("uint8", [4, 6, 3], 2),
        TensorSpec("uint8", (4, 6, 3), SMALL, ImageSpec("RGB", "HWC")),
        TensorSpec("uint8", (4, 6, 3)),
    ),
    "rgb-first": (
        tiny.turning("float32", [3, 4, 6], 3),
        TensorSpec("float32", (3, 4, 6), (-1, 1), ImageSpec("RGB")),
        TensorSpec("float32", (3, 4, 6)),
    ),
    "grey-last-double": (
        tiny.turning("float64", [4, 6, 1], 2),
        TensorSpec("float64", (4, 6, 1), (0, 1), ImageSpec("L", "HWC")),
        TensorSpec("float64", (4, 6, 1)),
    ),
    "grey-plane-half": (
        tiny.turning("float16", [4, 6], 2),
        TensorSpec("float16", (4, 6), (0, 1), ImageSpec("L", "HW")),
        TensorSpec("float16", (4, 6)),
    ),
    "rgb-any-size": (
        tiny.turning("float32", [3, "h", "w"], 3),
        TensorSpec("float32", (3, None, None), SMALL, ImageSpec("RGB")),
        TensorSpec("float32", (3, None, None)),
    ),
}


@dataclass(frozen=True)
class Cell:
    """One request of the matrix."""

    model: str
    operation: str
    body: str
    accept: str
    coding: str = "plain"

    def __str__(self) -> str:
        answer = self.accept.partition("/")[2]
        return f"{self.model}-{self.operation}-{self.body}-{answer}-{self.coding}"


def cells() -> Iterator[Cell]:
    """All of the models that stand for the others, and what can be answered in every coding."""
    for model, operation, body, accept in product(EVERYWHERE, FIELDS, BODIES, ANSWERS):
        cell = Cell(model, operation, body, accept)
        yield cell
        if status(cell) == 200:
            yield replace(cell, coding="gzip")
            yield replace(cell, coding="deflate")
    for cell in map(Cell, *zip(*product(TYPED, FIELDS, BODIES, ANSWERS), strict=True)):
        if status(cell) in {200, 422}:
            yield cell


def status(cell: Cell) -> int:
    """The contract's table, in the order in which the head of a request is looked at."""
    rows = TYPED[cell.model][1] if cell.model in TYPED else None
    is_picture = cell.model in {"picture", "mnist-conv"} if rows is None else rows.image is not None
    if cell.model == "encoder" and cell.operation != "encode":
        return 409
    if cell.accept == PNG and (cell.operation == "encode" or not is_picture):
        return 406
    if cell.body in PICTURES and (cell.operation == "decode" or not is_picture):
        return 415
    if cell.body == "json-flat" and rows is not None and not rows.is_fixed:
        return 422
    return 200


# of the body, and whether the answer must be compressed too
CODINGS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "plain": ("identity", bytes, "identity"),
    "gzip": ("gzip", gzip.compress, "gzip, identity;q=0"),
    "deflate": ("deflate", zlib.compress, "gzip;q=0.5, *;q=0"),
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with models of other dtypes, layouts and axes."""
    folder = tmp_path_factory.mktemp("typed")
    for name, (pair, rows, code) in TYPED.items():
        many = sample(rows, rows=199)
        tiny.write_typed(folder, pair, many[:4], name=name, rows=rows, code=code, calibration=many)
    return folder


@pytest.fixture(scope="module")
def clients(client: TestClient, zoo: Path, typed: Path) -> Iterator[Any]:
    """For each model its repository and a client of a server with it."""
    bundled = Path(__file__).parents[2] / "models"
    with serve(typed) as other, serve(bundled, required_models="mnist-conv") as third:

        def of(model: str) -> tuple[Path, TestClient]:
            if model in TYPED:
                return typed, other
            return (bundled, third) if model == "mnist-conv" else (zoo, client)

        yield of


def ask(client: TestClient, cell: Cell, sent: Sent) -> Any:
    """Send a request; a body that the client would write itself is written before."""
    made = client.build_request("POST", wire.url(cell.model, cell.operation), **sent.request)
    encoding, compress, accepted = CODINGS[cell.coding]
    headers = {
        "content-type": made.headers["content-type"],
        "content-encoding": encoding,
        "accept": cell.accept,
        "accept-encoding": accepted,
    }
    if "x-shape" in made.headers:
        headers["x-shape"] = made.headers["x-shape"]
    return client.post(str(made.url), content=compress(made.read()), headers=headers)


@pytest.mark.parametrize("cell", [*cells()], ids=str)
def test_an_answer_has_the_bits_of_onnx_runtime_or_the_status_of_the_contract(clients, cell):
    models, client = clients(cell.model)
    sent = send(cell.body, input_of(models, cell.model, cell.operation))
    wanted = status(cell)

    answer = ask(client, cell, sent)

    assert answer.status_code == wanted, answer.text
    if wanted != 200:
        wire.problem(answer)
        return
    assert answer.headers["content-type"] == cell.accept
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert ("content-encoding" in answer.headers) == (cell.coding != "plain")
    if cell.accept == PNG:
        assert_pixels(answer.content, drawn(models, cell.model, cell.operation, sent))
    else:
        assert_array(answer, cell, direct(models, cell.model, cell.operation, sent.rows))


def assert_array(answer: Any, cell: Cell, wanted: Array) -> None:
    assert_same_bits(read(answer, cell.accept, FIELDS[cell.operation], wanted.dtype), wanted)
    if cell.accept == RAW:
        assert answer.headers["x-dtype"] == wanted.dtype.name


@pytest.mark.parametrize("model", TYPED)
def test_a_score_is_the_mean_of_the_squares(clients, model):
    models, client = clients(model)
    spec = input_of(models, model, "anomaly-score")
    sent = send("npy", spec)
    reconstructed = direct(models, model, "reconstruct", sent.rows)
    difference = sent.rows.astype(np.float32) - reconstructed.astype(np.float32)
    squares = np.square(difference / spec.width, dtype=np.float64)
    wanted = squares.reshape(len(squares), -1).mean(axis=1)

    answer = client.post(wire.url(model, "anomaly-score"), **sent.request)

    np.testing.assert_allclose(answer.json()["scores"], wanted, rtol=1e-5)


@pytest.mark.parametrize("model", TYPED)
@pytest.mark.parametrize("accept", [JSON, NPY])
def test_a_code_decodes_to_the_reconstruction(clients, model, accept):
    models, client = clients(model)
    spec = input_of(models, model, "encode")
    rows, headers = wire.npy(sample(spec)), {"content-type": NPY, "accept": accept}

    codes = client.post(wire.url(model, "encode"), content=rows, headers=headers)
    body = codes.content
    if accept == JSON:
        body = json.dumps({"inputs": codes.json()["codes"]}).encode()
    decoded, wanted = (
        client.post(wire.url(model, operation), content=content, headers={
            "content-type": media, "accept": RAW,
        })
        for operation, content, media in (("decode", body, accept), ("reconstruct", rows, NPY))
    )  # fmt: skip

    assert decoded.status_code == 200, decoded.text
    assert decoded.content == wanted.content


def test_whole_numbers_beyond_all_floats_stay_what_they_are(clients):
    _, client = clients("int64")
    exact = [2**53 + 1, -(2**62) - 1]

    codes = client.post(wire.url("int64", "encode"), json={"inputs": [[*exact, 0, 0]]})
    back = client.post(wire.url("int64", "decode"), json={"inputs": codes.json()["codes"]})

    assert codes.json()["codes"] == [exact]
    assert back.json()["reconstructions"] == [exact * 2]


def test_a_code_that_is_no_whole_number_is_refused(clients):
    _, client = clients("integer-codes")

    answer = client.post(
        wire.url("integer-codes", "decode"), json={"inputs": [[0, 1, 2, 3], [0, 1, 2.5, 3]]}
    )

    assert answer.status_code == 422
    assert wire.problem(answer)["row"] == 1


def test_a_code_beyond_its_range_is_refused_before_the_model_fails_on_it(clients):
    _, client = clients("integer-codes")

    answer = client.post(wire.url("integer-codes", "decode"), json={"inputs": [[0, 1, 8, 3]]})

    assert answer.status_code == 422
    assert wire.problem(answer)["expected"] == "0 to 7"


def test_doubles_in_json_are_as_long_as_they_have_to_be(clients):
    _, client = clients("float64")

    answer = client.post(wire.url("float64", "encode"), json={"inputs": [[0.1, 1 / 3, 0, 0]]})

    assert b"[0.1,0.3333333333333333]" in answer.content


@pytest.mark.parametrize("model", ["float16", "float64", "uint8", "int64"])
def test_raw_rows_are_in_the_dtype_of_the_model(clients, model):
    """So the same bytes as float32 are no whole number of rows, or other rows."""
    _, client = clients(model)

    answer = client.post(
        wire.url(model, "encode"), content=bytes(12), headers={"content-type": RAW}
    )

    assert answer.status_code == (200 if model == "uint8" else 422)
