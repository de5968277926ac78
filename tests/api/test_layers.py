"""Layers and further outputs of ``encode`` over HTTP, by ONNX Runtime on the files themselves."""

import io
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.inference.operations import of_layer
from service.specs import ImageSpec
from tests import tiny
from tests.api import wire
from tests.api.line import listening
from tests.api.test_express import ask_for, body_of, both_ways
from tests.api.wire import JSON, NPY, PNG, RAW, problem, url
from tests.conftest import serve
from tests.runtime.test_layers import exposed

ROWS = np.random.default_rng(9).random((5, 4), np.float32)
LAYERS = {"before": "h", "hidden": "r"}


def wanted(tensor, rows=ROWS):
    encoder, decoder = tiny.layered()
    if tensor == "g":
        return exposed(decoder, "g", exposed(encoder, "z", rows))
    return exposed(encoder, tensor, rows)


def ask(client, query="", rows=ROWS, accept=JSON, **options):
    body = {"inputs": rows.tolist(), **options}
    return client.post(url("layered", "encode") + query, json=body, headers={"accept": accept})


def numbers(answer, name="codes", dtype=np.float32):
    return np.array(answer.json()[name], dtype)


@pytest.mark.parametrize(("layer", "tensor"), [("before", "h"), ("hidden", "r"), ("behind", "g")])
def test_a_layer_is_given_as_json(client, layer, tensor):
    answer = ask(client, f"?layer={layer}")

    assert list(answer.json()) == ["model", "version", "layer", "codes"]
    assert answer.json()["layer"] == layer
    np.testing.assert_array_equal(numbers(answer), wanted(tensor))


def test_a_layer_may_be_named_in_the_body(client):
    answer = ask(client, layer="hidden")

    assert answer.json() == ask(client, "?layer=hidden").json()


def test_a_layer_is_given_as_an_array(client):
    npy = ask(client, "?layer=hidden", accept=NPY)
    raw = ask(client, "?layer=hidden", accept=RAW)

    np.testing.assert_array_equal(np.load(io.BytesIO(npy.content)), wanted("r"))
    assert (raw.headers["x-shape"], raw.headers["x-dtype"]) == ("5,6", "float32")
    assert raw.content == wanted("r").tobytes()


def test_a_layer_is_no_picture(client):
    assert ask(client, "?layer=hidden", accept=PNG).status_code == 406


def test_an_unknown_layer_is_409_and_names_those_that_there_are(client):
    for answer in (ask(client, "?layer=nothing"), ask(client, layer="nothing")):
        assert answer.status_code == 409
        assert problem(answer)["expected"] == "before or hidden or behind"


def test_a_model_without_layers_says_so(client):
    answer = client.post(url("plain", "encode") + "?layer=one", json={"inputs": ROWS.tolist()})

    assert answer.status_code == 409
    assert problem(answer)["detail"] == "the model has no layers"


@pytest.mark.parametrize("layer", [1, True, ["hidden"]], ids=str)
def test_what_is_no_name_of_a_layer_is_422(client, layer):
    answer = ask(client, layer=layer)

    assert answer.status_code == 422
    assert problem(answer)["detail"] == "the option 'layer' is wrong"


def test_a_layer_that_is_named_twice_is_422(client):
    assert ask(client, "?layer=hidden", layer="hidden").status_code == 422


@pytest.mark.parametrize("operation", ["decode", "reconstruct", "anomaly-score"])
def test_other_operations_know_no_layers(client, operation):
    rows = ROWS[:, :2] if operation == "decode" else ROWS

    answer = client.post(
        url("layered", operation) + "?layer=hidden", json={"inputs": rows.tolist()}
    )

    assert answer.status_code == 422
    assert problem(answer)["detail"] == "an option is unknown"


def test_further_outputs_are_fields_behind_the_codes(client):
    answer = ask(client)

    assert list(answer.json()) == ["model", "version", "codes", "cluster", "total"]
    np.testing.assert_array_equal(numbers(answer), wanted("z"))
    assert answer.json()["cluster"] == wanted("cluster").tolist()
    np.testing.assert_array_equal(numbers(answer, "total"), wanted("total"))


def test_arrays_hold_the_codes_alone(client):
    answer = ask(client, accept=NPY)

    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), wanted("z"))


def test_the_card_lists_layers_and_further_outputs(client):
    card = client.get("/v1/models/layered").json()

    assert card["layers"]["behind"] == {
        "file": "decoder", "tensor": "g", "dtype": "float32", "shape": [6],
    }  # fmt: skip
    assert card["further_outputs"]["cluster"]["dtype"] == "int64"


def test_rows_of_many_clients_are_not_mixed_up(zoo, tmp_path):
    shutil.copytree(zoo / "layered", tmp_path / "layered")
    rng = np.random.default_rng(3)
    requests = [
        (query, rng.random((size, 4), np.float32))
        for size in (1, 2, 3, 11)  # the largest is split over batches
        for query in ("", "?layer=hidden", "?layer=behind", "?layer=before")
        for _ in range(3)
    ]

    with serve(tmp_path, max_batch_rows=4) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: ask(client, *each), requests))

    tensors = {"": "z", "?layer=hidden": "r", "?layer=behind": "g", "?layer=before": "h"}
    for (query, rows), answer in zip(requests, answers, strict=True):
        np.testing.assert_allclose(
            numbers(answer), wanted(tensors[query], rows), rtol=1e-5, atol=1e-6
        )
        if not query:
            assert answer.json()["cluster"] == wanted("cluster", rows).tolist()
            np.testing.assert_allclose(numbers(answer, "total"), wanted("total", rows), rtol=1e-6)


def test_pictures_have_layers_too(tmp_path):
    rows = np.random.default_rng(2).random((4, 1, 4, 4), np.float32)
    tiny.write(
        tmp_path,
        tiny.halving_pictures(),
        rows,
        name="picture",
        value_range=(0, 1),
        image=ImageSpec(),
        code_shape=(1, 4, 4),
        layers={"negative": tiny.inner("decoder", "n", 1, 4, 4)},
    )
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)

    with serve(tmp_path) as client:
        answer = client.post(
            url("picture", "encode") + "?layer=negative",
            content=wire.picture(pixels),
            headers={"content-type": "image/png"},
        )

    np.testing.assert_allclose(numbers(answer)[0, 0], pixels / -510, rtol=1e-6)


def test_a_request_for_a_layer_counts_as_encode(zoo, tmp_path):
    shutil.copytree(zoo / "layered", tmp_path / "layered")
    with serve(tmp_path) as client:
        ask(client, "?layer=hidden")
        text = client.get("/metrics").text
        card = client.get("/v1/models/layered").json()

    series = 'hourglass_requests_total{model="layered",operation="encode",outcome="ok",version="1"}'
    assert f"{series} 1.0" in text
    assert "layer=" not in text
    assert of_layer("hidden") in card["placement"]["cost"]


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["", "?layer=hidden", "?layer=behind"])
@pytest.mark.parametrize("accept", [JSON, RAW])
async def test_the_short_way_gives_the_same(zoo, tmp_path, query, accept):
    shutil.copytree(zoo / "layered", tmp_path / "layered")
    sent = ask_for(url("layered", "encode") + query, body_of(ROWS, RAW), RAW, accept=accept)

    async with listening(tmp_path) as port:
        answer = await both_ways(port, sent)

    assert answer.status_code == 200


@pytest.mark.anyio
async def test_a_layer_in_the_body_of_a_known_head_is_not_mistaken_for_the_code(zoo, tmp_path):
    shutil.copytree(zoo / "layered", tmp_path / "layered")
    one, other = (body_of(ROWS, JSON, layer=layer) for layer in ("hidden", "behind"))
    code = body_of(ROWS, JSON).ljust(len(one))

    async with listening(tmp_path) as port:
        line = port.connect()
        answers = [
            await line.ask(b"POST /v1/models/layered/encode HTTP/1.1\r\nhost: t\r\n"
                           b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                           % (len(body), body))
            for body in (one, one, one, code, other, code)
        ]  # fmt: skip
        line.hang_up()

    layers = [answer.json().get("layer") for answer in answers]
    assert layers == ["hidden"] * 3 + [None, "behind", None]
    for answer in (answers[3], answers[5]):
        np.testing.assert_array_equal(numbers(answer), wanted("z"))
