"""Bodies and answers beside the matrix: codings, orders, sizes, free axes, what Accept chooses."""

import gzip
import json
import zlib

import numpy as np
import pytest

from tests.api import wire
from tests.api.direct import assert_pixels, assert_same_bits, direct, read
from tests.api.wire import JSON, NPY, PNG, RAW

MIXED = np.random.default_rng(7).random((3, 6), np.float32)
FLOAT = np.dtype(np.float32)
ROW = {"inputs": [[0.25, 0.5, 0.75, 1.0]]}


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
    rows = MIXED
    plain = {
        JSON: json.dumps({"inputs": rows.tolist()}).encode(),
        NPY: wire.npy(rows),
        RAW: rows.tobytes(),
    }[media]
    headers = {"content-type": media, "content-encoding": encoding, "accept": NPY}

    answer = client.post("/v1/models/mixed/encode", content=compress(plain), headers=headers)

    assert_same_bits(read(answer, NPY, "codes", FLOAT), direct(zoo, "mixed", "encode", rows))


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
    np.testing.assert_allclose(read(answer, NPY, "codes", FLOAT), wanted, rtol=1e-5, atol=1e-6)


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

    assert_same_bits(read(answer, NPY, "codes", FLOAT), np.array([[0.1, 0.2]], np.float32))


def test_free_axes_take_their_shape_from_the_header(client):
    rows = np.random.default_rng(0).random((2, 1, 3, 5), np.float32)
    headers = {"content-type": RAW, "x-shape": "2,1,3,5", "accept": RAW}

    answer = client.post("/v1/models/any-size/encode", content=rows.tobytes(), headers=headers)

    assert answer.headers["x-shape"] == "2,1,3,5"
    assert_same_bits(read(answer, RAW, "codes", FLOAT), rows / 2)


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


def test_several_headers_are_one_list(client):
    accept = [("accept", "text/html;q=0.9"), ("accept", f"{NPY};q=0.3, {RAW};q=0.4")]

    answer = client.post("/v1/models/tabular/encode", json=ROW, headers=accept)

    assert answer.headers["content-type"] == RAW


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param("", None, id="empty"),
        pytest.param("gzip, deflate, br, zstd", "gzip", id="a browser"),
        pytest.param("deflate, br", None, id="others"),
        pytest.param("gzip;q=0", None, id="not gzip"),
        pytest.param("gzip;q=0.3, identity;q=0.6", None, id="rather plain"),
    ],
)
@pytest.mark.parametrize("way", ["encode", "anomaly-score"])
def test_a_large_json_answer_is_compressed_when_asked(client, way, accept_encoding, coding):
    rows = np.random.default_rng(0).random((2000, 4), np.float32)
    headers = {"content-type": RAW, "accept-encoding": accept_encoding}
    request = client.build_request("POST", f"/v1/models/tabular/{way}", content=rows.tobytes())
    request.headers.update({name: value for name, value in headers.items() if value is not None})
    if accept_encoding is None:
        del request.headers["accept-encoding"]

    answer = client.send(request)

    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert len(answer.json()["codes" if way == "encode" else "scores"]) == 2000


@pytest.mark.parametrize("accept", [NPY, RAW])
def test_arrays_are_not_compressed_for_who_takes_them_as_they_are(client, accept):
    rows = np.zeros((2000, 4), np.float32)
    headers = {"content-type": RAW, "accept": accept, "accept-encoding": "gzip"}

    answer = client.post("/v1/models/tabular/encode", content=rows.tobytes(), headers=headers)

    assert "content-encoding" not in answer.headers


def test_a_client_that_takes_no_coding_is_not_acceptable(client):
    headers = {"accept-encoding": "br, identity;q=0"}

    answer = client.post("/v1/models/tabular/encode", json=ROW, headers=headers)

    assert answer.status_code == 406
    assert wire.problem(answer)["expected"] == "gzip or identity"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "secret"])
def test_an_unknown_encoding_is_refused_by_the_head_of_the_request(client, encoding):
    """Its body, which is nothing but broken, is not looked at."""
    headers = {"content-type": JSON, "content-encoding": encoding}

    answer = client.post("/v1/models/tabular/encode", content=b"{", headers=headers)

    assert answer.status_code == 415
    assert wire.problem(answer)["expected"] == "gzip, deflate or identity"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"inputs": [[1, 0, 0, 0]], "inputs": [[0, 0, 0, 0]]}', 422, id="twice"),
        pytest.param(b'{"inputs": []}', 422, id="no rows"),
        pytest.param(b'{"inputs": [[]]}', 422, id="an empty row"),
        pytest.param(b'{"inputs": [[[]]]}', 422, id="an empty list in a row"),
        pytest.param(b'{"inputs": [1, 0, 0, 0]}', 422, id="numbers for rows"),
        pytest.param(b'{"inputs": [[1, 0, 0, 0]]} ', 200, id="blanks behind"),
        pytest.param(b'{"inputs": [[1, 0, 0, 0]]}x', 400, id="something behind"),
        pytest.param(b'{"inputs": [[1, 0, 0, 0]]}\0', 400, id="a zero byte behind"),
        pytest.param(b'\xef\xbb\xbf{"inputs": [[1, 0, 0, 0]]}', 400, id="byte order mark"),
        pytest.param('{"inputs": [[1, 0, 0, 0]]}'.encode("utf-16"), 400, id="UTF-16"),
        pytest.param('{"inputs": [[1, 0, 0, 0]]}'.encode("utf-32-le"), 400, id="UTF-32"),
        pytest.param('{"inputs": [[\u0661, 0, 0, 0]]}'.encode(), 400, id="digits of Arabic"),
        pytest.param('{"inputs": [[1, 0, 0, 0]], "\u00e9": 1}'.encode(), 422, id="another key"),
    ],
)
def test_the_rules_of_json(client, body, status):
    answer = client.post("/v1/models/tabular/encode", content=body, headers={"content-type": JSON})

    assert answer.status_code == status


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("media", ["image/png", "image/jpeg", "image/webp"])
def test_a_picture_is_what_its_content_says(client, kind, media):
    picture = wire.picture(np.full((4, 4), 255, np.uint8), kind)

    answer = client.post(
        "/v1/models/picture/encode", content=picture, headers={"content-type": media}
    )

    assert answer.json()["codes"] == [np.full((1, 4, 4), 0.5).tolist()]
