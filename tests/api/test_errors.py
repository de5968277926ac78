"""Every row of the status table: which fault it is for, and what its body says and does not."""

import asyncio
import gzip
import io
import json
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import DeviceLostError
from tests.api import wire
from tests.api.asgi import Connection, running, until
from tests.api.conftest import Workshop
from tests.api.wire import JSON, NPY, PNG, RAW, problem, url
from tests.conftest import serve
from tests.fakes import WAIT_S

ROW = [0.25, 0.5, 0.75, 1.0]
ENCODE = url("tabular", "encode")
SECRET = "my-secret-value"  # noqa: S105 - what no answer may repeat


def post(client, content, media=JSON, path=ENCODE, **headers):
    sent = {"content-type": media}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, content=content, headers=sent)


def send(client, inputs, model="tabular", operation="encode", **options):
    return client.post(url(model, operation), json={"inputs": inputs, **options})


def png(value: int = 0, shape: tuple[int, ...] = (4, 4)) -> bytes:
    return wire.picture(np.full(shape, value, np.uint8))


NPY_HEADER = b"\x93NUMPY\x01\x00"
NOISE = wire.picture(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
WHOLE = wire.picture(np.eye(4, dtype=np.uint8))
GIF = wire.picture(np.zeros((4, 4), np.uint8), "GIF")


@pytest.mark.parametrize(
    ("model", "media", "content"),
    [
        pytest.param("tabular", JSON, b"", id="empty"),
        pytest.param("tabular", JSON, b'{"inputs": [[1, 2', id="cut-off JSON"),
        pytest.param("tabular", JSON, b'{"inputs": [[NaN, 0, 0, 0]]}', id="NaN"),
        pytest.param("tabular", JSON, b'{"inputs": [[-Infinity, 0, 0, 0]]}', id="Infinity"),
        pytest.param("tabular", JSON, b'{"inputs": [[1e400, 0, 0, 0]]}', id="beyond double"),
        pytest.param("tabular", JSON, b'{"inputs": [[1, 0, 0, 0]]} and more', id="trailing text"),
        pytest.param("tabular", JSON, b'\xff{"inputs": []}', id="not UTF-8"),
        pytest.param("tabular", NPY, b"", id="empty npy"),
        pytest.param("tabular", NPY, b"PK\x03\x04 an npz", id="no npy"),
        pytest.param("tabular", NPY, NPY_HEADER + b"\xff\xff{", id="npy header too long"),
        pytest.param("tabular", NPY, NPY_HEADER + b"\x05\x00{'a':", id="broken npy header"),
        pytest.param("tabular", NPY, wire.npy(np.zeros((2, 4), np.float32))[:-1], id="npy cut off"),
        pytest.param("picture", PNG, b"", id="empty picture"),
        pytest.param("picture", PNG, WHOLE[: len(WHOLE) // 2], id="picture cut off"),
        pytest.param("picture", PNG, GIF, id="picture of an unknown format"),
        pytest.param("picture", "multipart/form-data", b"--x--", id="form without boundary"),
        pytest.param(
            "picture", "multipart/form-data; boundary=x", b"nothing", id="form off its boundary"
        ),
        pytest.param(
            "picture",
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
            id="form cut off",
        ),
    ],
)
def test_what_does_not_parse_is_400(client, model, media, content):
    answer = post(client, content, media, url(model, "encode"))

    assert answer.status_code == 400
    problem(answer)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x_request_timeout_ms": "soon"}, id="timeout"),
        pytest.param({"content_encoding": "gzip"}, id="not of its encoding"),
    ],
)
def test_a_broken_header_is_400(client, headers):
    answer = post(client, b'{"inputs": [[0, 0, 0, 0]]}', **headers)

    assert answer.status_code == 400
    problem(answer)


@pytest.mark.parametrize("media", [RAW, JSON])
@pytest.mark.parametrize("shape", ["", "2,", "a,b", "-1,4", "1.5,4", "1," * 20 + "1"])
def test_a_broken_shape_header_is_400_whatever_the_body(client, shape, media):
    body = {RAW: b"\0" * 16, JSON: b'{"inputs": [[0, 0, 0, 0]]}'}[media]

    answer = post(client, body, media, x_shape=shape)

    assert answer.status_code == 400
    problem(answer)


def test_a_query_with_too_many_fields_is_400(client):
    answer = client.post(ENCODE + "?" + "&".join(f"a{n}=1" for n in range(100)), json={})

    assert answer.status_code == 400
    problem(answer)


@pytest.mark.parametrize(
    "compressed",
    [
        pytest.param(gzip.compress(b"{}" * 1000)[:-8], id="gzip cut off"),
        pytest.param(b"no gzip", id="no gzip"),
    ],
)
def test_a_broken_compression_is_400(client, compressed):
    answer = post(client, compressed, content_encoding="gzip")

    assert answer.status_code == 400
    problem(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/nobody/encode",
        "/v1/models/nobody/versions/1/encode",
        "/v1/models/tabular/versions/7/encode",
        "/v1/models/Tabular/encode",
        "/v1/models/../encode",
        "/v1/models//encode",
        "/v1/models/tabular/classify",
        "/v1/models/tabular/encode/",
        "/v1/models/tabular/encode/more",
        "/v3/models/nobody",
        "/nothing",
        "/",
    ],
)
def test_an_unknown_path_model_or_version_is_404(client, path):
    answer = client.post(path, json={"inputs": [ROW]})

    assert answer.status_code == 404
    problem(answer)


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/tabular/", "/livez/"])
def test_a_path_with_a_slash_too_many_is_404(client, path):
    answer = client.get(path, follow_redirects=False)

    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/v1/models/nobody", "/v1/models/tabular/versions/7"])
def test_the_card_of_nobody_is_404(client, path):
    answer = client.get(path)

    assert answer.status_code == 404
    problem(answer)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", ENCODE, "POST"),
        ("PUT", ENCODE, "POST"),
        ("DELETE", url("tabular", "decode", "1"), "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/v1/models/tabular", "GET"),
        ("DELETE", "/v1/models/tabular/versions/1", "GET"),
        ("POST", "/livez", "GET"),
        ("POST", "/readyz", "GET"),
        ("PUT", "/metrics", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_is_allowed(client, method, path, allowed):
    answer = client.request(method, path)

    assert answer.status_code == 405
    assert allowed in answer.headers["allow"]
    problem(answer)


@pytest.mark.parametrize(
    ("model", "operation", "accept"),
    [
        ("tabular", "encode", "text/html"),
        ("tabular", "reconstruct", PNG),
        ("tabular", "anomaly-score", PNG),
        ("picture", "encode", PNG),
        ("picture", "reconstruct", "image/jpeg"),
        ("picture", "reconstruct", "application/json;q=0"),
        ("picture", "reconstruct", "nonsense"),
    ],
)
def test_an_answer_that_cannot_be_given_is_406_and_names_those_that_can(
    client, model, operation, accept
):
    answer = client.post(url(model, operation), json={"inputs": [ROW]}, headers={"accept": accept})

    assert answer.status_code == 406
    assert "application/json or application/x-npy" in problem(answer)["expected"]


@pytest.mark.parametrize(
    ("model", "operation", "media"),
    [
        pytest.param("tabular", "encode", "text/plain", id="unknown"),
        pytest.param("tabular", "encode", "application/xml", id="another unknown"),
        pytest.param("tabular", "encode", PNG, id="picture for a tabular model"),
        pytest.param("tabular", "encode", "multipart/form-data; boundary=x", id="form for it"),
        pytest.param("picture", "decode", PNG, id="picture as a code"),
        pytest.param("picture", "encode", "image/gif", id="unknown picture"),
        pytest.param("picture", "encode", "", id="none"),
    ],
)
def test_a_content_type_that_is_not_understood_is_415(client, model, operation, media):
    answer = post(client, b"abc", media, url(model, operation))

    assert answer.status_code == 415
    assert "application/json" in problem(answer)["expected"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "nonsense"])
def test_an_encoding_that_is_not_understood_is_415(client, encoding):
    answer = post(client, b"{}", content_encoding=encoding)

    assert answer.status_code == 415
    assert problem(answer)["expected"] == "gzip, deflate or identity"


@pytest.mark.parametrize(
    ("inputs", "row"),
    [
        pytest.param([[0, 0, 0, 0], ["1", 0, 0, 0]], 1, id="text"),
        pytest.param([[0, 0, 0, 0], [0, True, 0, 0]], 1, id="boolean"),
        pytest.param([[0, 0, 0, 0], [0, 0, None, 0]], 1, id="null"),
        pytest.param([[0, 0, 0, 0], [0, 0, {}, 0]], 1, id="object"),
        pytest.param([[0, 0, 0, 0], [0, 0, 0], [0, 0, 0, 0]], 1, id="too short"),
        pytest.param([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0, 0]], 2, id="too long"),
        pytest.param([[0, [0], 0, 0], [0, 0, 0, 0]], 0, id="ragged within"),
        pytest.param([[0, 0, 0, 0], [0, 0, 1e39, 0]], 1, id="overflow"),
        pytest.param([[0, 0, 0, 0], [0, 0, 2, 0]], 1, id="above the range"),
        pytest.param([[0, 0, 0, 0], [0, 0, 0, -0.1]], 1, id="below the range"),
        pytest.param([[0, 0, 0, 0], [10**30, 0, 0, 0]], 1, id="a huge integer"),
    ],
)
def test_a_wrong_row_is_422_and_named(client, inputs, row):
    answer = send(client, inputs)

    assert answer.status_code == 422
    assert problem(answer)["row"] == row


@pytest.mark.parametrize(
    "body",
    [
        pytest.param([[0, 0, 0, 0]], id="no object"),
        pytest.param({}, id="no inputs"),
        pytest.param({"inputs": None}, id="null"),
        pytest.param({"inputs": {}}, id="an object"),
        pytest.param({"inputs": 3}, id="a number"),
        pytest.param({"inputs": []}, id="an empty batch"),
        pytest.param({"inputs": [[]]}, id="empty rows"),
        pytest.param({"inputs": [0, 0, 0, 0]}, id="a row without its batch"),
        pytest.param({"inputs": [[0, 0, 0]]}, id="too few features"),
        pytest.param({"inputs": [[[0, 0, 0, 0]]]}, id="an axis too many"),
        pytest.param({"inputs": [[0, 0, 0, 0]], "unknown": 1}, id="an unknown option"),
        pytest.param({"input": [[0, 0, 0, 0]]}, id="a misspelt field"),
    ],
)
def test_a_wrong_body_is_422(client, body):
    answer = client.post(ENCODE, json=body)

    assert answer.status_code == 422
    problem(answer)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros((0, 4), np.float32), id="an empty batch"),
        pytest.param(np.float32(1), id="a single number"),
        pytest.param(np.zeros((1, 5), np.float32), id="another shape"),
        pytest.param(np.zeros((1, 4), bool), id="booleans"),
        pytest.param(np.zeros((1, 4), complex), id="complex numbers"),
        pytest.param(np.zeros((1, 4), "U3"), id="texts"),
        pytest.param(np.full((1, 4), np.nan, np.float32), id="NaN"),
        pytest.param(np.full((1, 4), np.inf, np.float32), id="Infinity"),
        pytest.param(np.full((1, 4), 1e39), id="overflow"),
    ],
)
def test_a_wrong_array_is_422(client, array):
    answer = post(client, wire.npy(np.asarray(array)), NPY)

    assert answer.status_code == 422
    problem(answer)


def test_a_pickle_is_422_and_never_opened(client):
    buffer = io.BytesIO()
    np.save(buffer, np.array([[object.__class__]], dtype=object), allow_pickle=True)

    answer = post(client, buffer.getvalue(), NPY)

    assert answer.status_code == 422
    problem(answer)


def test_floats_for_a_model_of_integers_are_422(client):
    answer = send(client, [[0.5, 1]], model="integers")

    assert answer.status_code == 422
    assert problem(answer)["expected"] == "int64"


def test_an_integer_beyond_the_models_is_422(client):
    answer = post(
        client, wire.npy(np.array([[2**63, 1]], np.uint64)), NPY, url("integers", "encode")
    )

    assert answer.status_code == 422
    assert problem(answer)["row"] == 0


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        pytest.param(b"\0" * 15, {}, id="no whole number of rows"),
        pytest.param(b"", {}, id="no rows"),
        pytest.param(b"\0" * 16, {"x_shape": "2,4"}, id="fewer than the shape says"),
        pytest.param(b"\0" * 16, {"x_shape": "2,2"}, id="rows of another shape"),
        pytest.param(np.array([0, 0, 0, np.nan], np.float32).tobytes(), {}, id="NaN"),
        pytest.param(b"\0" * 16, {"x_shape": "99999999999,99999999999"}, id="a vast shape"),
    ],
)
def test_wrong_raw_rows_are_422(client, content, headers):
    answer = post(client, content, RAW, **headers)

    assert answer.status_code == 422
    problem(answer)


def test_raw_rows_of_free_axes_without_a_shape_are_422(client):
    answer = post(client, b"\0" * 64, RAW, url("any-size", "encode"))

    assert answer.status_code == 422
    assert "X-Shape" in problem(answer)["expected"]


def test_a_picture_of_another_size_is_422_and_tells_both(client):
    answer = post(client, png(shape=(5, 3)), PNG, url("picture", "encode"))

    assert answer.status_code == 422
    assert (problem(answer)["expected"], problem(answer)["received"]) == ("4x4", "3x5")


def test_a_wrong_part_of_a_form_is_named(client):
    answer = client.post(
        url("picture", "encode"), files=wire.form(png(), png(), png(shape=(2, 2)), png())
    )

    assert answer.status_code == 422
    assert problem(answer)["row"] == 2


def test_a_broken_part_of_a_form_is_named(client):
    answer = client.post(url("picture", "encode"), files=wire.form(png(), b"no picture"))

    assert answer.status_code == 400
    assert problem(answer)["row"] == 1


def test_a_part_of_another_name_is_422(client):
    answer = client.post(url("picture", "encode"), files=wire.form(png(), name="picture"))

    assert answer.status_code == 422
    assert problem(answer)["expected"] == "a part named 'file'"


def test_pictures_of_different_sizes_in_one_request_are_422(client):
    answer = client.post(
        url("any-size", "encode"), files=wire.form(png(), png(), png(shape=(4, 5)))
    )

    assert answer.status_code == 422
    assert problem(answer)["row"] == 2


def test_a_moving_picture_is_422(client):
    frames = [Image.new("L", (4, 4), level) for level in (0, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])

    answer = post(client, buffer.getvalue(), PNG, url("picture", "encode"))

    assert answer.status_code == 422
    problem(answer)


def test_a_failing_row_is_500_and_named(client):
    rows = [[1, 0, 0, 0], [2, 0, 0, 0], [9, 0, 0, 0], [3, 0, 0, 0]]

    answer = send(client, rows, model="poison")

    assert answer.status_code == 500
    assert problem(answer)["row"] == 2
    assert "Gather" not in answer.text


def test_the_next_request_after_a_failing_one_is_answered(client):
    send(client, [[9, 0, 0, 0]], model="poison")

    answer = send(client, [[3, 0, 0, 0]], model="poison")

    assert answer.json()["codes"] == [[3.0]]


def test_a_non_finite_answer_of_the_model_is_500_with_its_row(client):
    rows = np.zeros((3, 6), np.float32)
    rows[1] = 3e38

    answer = send(client, rows.tolist(), model="mixed", operation="anomaly-score")

    assert answer.status_code == 500
    assert problem(answer)["row"] == 1


def test_an_unknown_exception_is_a_bare_500(tabular):
    workshop = Workshop()
    with serve(tabular, sessions=workshop) as client:
        for session in workshop.sessions:
            session.compute = lambda _: ()

        answer = client.post(ENCODE, json={"inputs": [ROW]})

    assert answer.status_code == 500
    assert problem(answer)["detail"] == "the server failed on this request"
    assert "IndexError" not in answer.text


def test_a_lost_device_is_503_for_everybody_and_the_process_is_no_longer_alive(tabular):
    workshop = Workshop()

    def lose(_):
        raise DeviceLostError("the device failed")

    with serve(tabular, sessions=workshop) as client:
        for session in workshop.sessions:
            session.compute = lose
        answer = client.post(ENCODE, json={"inputs": [ROW]})
        runs = len(workshop.batches)
        other = client.post(url("tabular", "anomaly-score"), json={"inputs": [ROW]})
        live, ready = client.get("/livez"), client.get("/readyz")

    assert (answer.status_code, other.status_code) == (503, 503)
    assert problem(answer)["detail"] == "the device failed"
    assert problem(other)["detail"] == "the device is lost"
    assert int(other.headers["retry-after"]) >= 1
    assert len(workshop.batches) == runs  # nothing more is tried on it
    assert live.status_code == 503
    assert ready.status_code == 503
    assert "restart" in ready.text


def test_a_model_that_is_being_loaded_is_503(tabular):
    may_load = threading.Event()
    workshop = Workshop()

    def slowly(graph, device):
        may_load.wait(WAIT_S)
        return workshop(graph, device)

    with serve(tabular, sessions=slowly, ready=False) as client:
        try:
            answer = client.post(ENCODE, json={"inputs": [ROW]})
        finally:
            may_load.set()

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    problem(answer)


def test_a_deadline_that_passes_during_the_run_is_504(tabular, workshop):
    with serve(tabular, sessions=workshop) as client:
        workshop.hold()

        answer = client.post(ENCODE, json={"inputs": [ROW]}, headers={"x-request-timeout-ms": "30"})

    assert answer.status_code == 504
    assert problem(answer)["detail"] == "the deadline passed during the run"


def test_a_run_that_nobody_waits_for_is_stopped(tabular, workshop):
    with serve(tabular, sessions=workshop) as client:
        workshop.hold()
        client.post(ENCODE, json={"inputs": [ROW]}, headers={"x-request-timeout-ms": "30"})

        workshop.release()
        answer = client.post(ENCODE, json={"inputs": [ROW]})

    assert answer.status_code == 200


def test_the_servers_own_deadline_holds_without_a_header(tabular, workshop):
    with serve(tabular, sessions=workshop, request_timeout_ms=30) as client:
        workshop.hold()

        answer = client.post(ENCODE, json={"inputs": [ROW]})

    assert answer.status_code == 504


@pytest.mark.anyio
async def test_a_deadline_that_passes_in_the_queue_is_504(tabular, workshop):
    async with running(tabular, sessions=workshop) as server:
        workshop.hold()
        first = asyncio.create_task(server.post(ENCODE, [ROW]))
        await until(lambda: bool(workshop.batches))

        answer = await server.post(ENCODE, [ROW], x_request_timeout_ms="30")

        workshop.release()
        await first
    assert answer.status_code == 504
    assert answer.json()["detail"] == "the deadline passed in the queue"


@pytest.mark.anyio
async def test_a_body_that_does_not_end_in_time_is_504(tabular):
    headers = {"content-type": JSON, "x-request-timeout-ms": "30"}
    async with running(tabular) as server:
        half = Connection([b'{"inputs": [['], is_complete=False)

        answer = await server.send("POST", ENCODE, half, headers)

    assert answer.status_code == 504
    assert answer.json()["status"] == 504


@pytest.mark.anyio
async def test_a_body_in_pieces_is_put_together(tabular):
    body = json.dumps({"inputs": [ROW]}).encode()
    async with running(tabular) as server:
        connection = Connection([body[:5], b"", body[5:]])

        answer = await server.send("POST", ENCODE, connection, {"content-type": JSON})

    assert answer.json()["codes"] == [ROW[:2]]


FAULTS = [
    pytest.param({"json": {"inputs": [[SECRET, 0, 0, 0]]}}, id="a value"),
    pytest.param({"json": {"inputs": [[0, 0, 0, 0]], SECRET: SECRET}}, id="an option"),
    pytest.param({"json": {"inputs": [[0, 0, 0, 0]], "resize": SECRET}}, id="an option's value"),
    pytest.param({"json": SECRET}, id="a document"),
    pytest.param({"content": SECRET, "headers": {"content-type": JSON}}, id="no JSON"),
    pytest.param({"content": SECRET, "headers": {"content-type": SECRET}}, id="a content type"),
    pytest.param({"json": {}, "headers": {"accept": SECRET}}, id="accept"),
    pytest.param({"json": {}, "headers": {"x-request-timeout-ms": SECRET}}, id="a timeout"),
    pytest.param({"json": {}, "headers": {"content-encoding": SECRET}}, id="an encoding"),
    pytest.param({"json": {}, "params": {SECRET: SECRET}}, id="a query"),
    pytest.param(
        {"content": b"", "headers": {"content-type": RAW, "x-shape": SECRET}}, id="a shape"
    ),
    pytest.param(
        {
            "content": wire.npy(np.array([[SECRET]])),
            "headers": {"content-type": NPY},
        },
        id="an array",
    ),
]


@pytest.mark.parametrize("request_", FAULTS)
def test_an_error_repeats_nothing_of_the_request(client, request_):
    answer = client.post(ENCODE, **request_)

    assert 400 <= answer.status_code < 500
    assert SECRET not in json.dumps(problem(answer))


@pytest.mark.parametrize(
    "path", [f"/{SECRET}", f"/v1/models/{SECRET}", f"/v1/models/tabular/versions/{SECRET}/encode"]
)
def test_an_error_repeats_nothing_of_the_path(client, path):
    answer = client.post(path)

    assert SECRET not in answer.text


def test_an_error_over_a_large_body_is_small(client):
    answer = send(client, [[0, 0, 0, 0]] * 4_000 + [["x" * 10_000, 0, 0, 0]])

    assert answer.status_code == 422
    assert problem(answer)["row"] == 4_000


def test_a_deep_nest_of_lists_is_refused(client):
    deep = b'{"inputs": ' + b"[" * 500 + b"1" + b"]" * 500 + b"}"

    answer = post(client, deep)

    assert answer.status_code in {400, 422}
    problem(answer)


@pytest.mark.parametrize("level", [-zlib.MAX_WBITS, zlib.MAX_WBITS])
def test_deflate_is_understood_with_and_without_its_wrapper(client, level):
    packer = zlib.compressobj(wbits=level)
    body = packer.compress(b'{"inputs": [[1, 0, 0, 0]]}') + packer.flush()

    answer = post(client, body, content_encoding="deflate")

    assert answer.json()["codes"] == [[1.0, 0.0]]


def test_a_card_that_cannot_be_read_is_503(zoo, tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)

    with serve(tmp_path, ready=False) as client:
        answer = client.get("/v1/models/broken")

    assert answer.status_code == 503
    assert str(tmp_path) not in json.dumps(problem(answer))
