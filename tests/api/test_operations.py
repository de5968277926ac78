"""What each operation answers, and which model and version does."""

import numpy as np
import pytest

from tests.api import wire
from tests.api.wire import problem, url

ROW = [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("operation", "row", "field", "wanted"),
    [
        pytest.param("encode", ROW, "codes", [[0.25, 0.5]], id="encode"),
        pytest.param("decode", [0.25, 0.5], "reconstructions", [[0.25, 0.5, 0, 0]], id="decode"),
        pytest.param("reconstruct", ROW, "reconstructions", [[0.25, 0.5, 0, 0]], id="reconstruct"),
        pytest.param("anomaly-score", ROW, "scores", [(0.75**2 + 1) / 4], id="anomaly-score"),
    ],
)
def test_an_operation_by_hand(client, operation, row, field, wanted):
    answer = client.post(url("tabular", operation), json={"inputs": [row]})

    assert answer.json()[field] == wanted


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("encode", {"model", "version", "codes"}),
        ("decode", {"model", "version", "reconstructions"}),
        ("reconstruct", {"model", "version", "reconstructions"}),
    ],
)
def test_an_answer_carries_model_and_version_and_nothing_unknown(client, operation, fields):
    row = ROW[:2] if operation == "decode" else ROW

    answer = client.post(url("tabular", operation), json={"inputs": [row]}).json()

    assert answer.keys() == fields
    assert (answer["model"], answer["version"]) == ("tabular", "1")


def test_reconstruct_is_decode_of_encode(client):
    rows = np.random.default_rng(0).random((5, 6), np.float32).tolist()
    codes = client.post(url("mixed", "encode"), json={"inputs": rows}).json()["codes"]

    decoded = client.post(url("mixed", "decode"), json={"inputs": codes}).json()
    whole = client.post(url("mixed", "reconstruct"), json={"inputs": rows}).json()

    assert decoded["reconstructions"] == whole["reconstructions"]


def test_without_a_version_the_newest_by_number_answers(client):
    answer = client.post(url("aged", "encode"), json={"inputs": [[1] * 6]})

    assert answer.json()["version"] == answer.headers["x-model-version"] == "10"


@pytest.mark.parametrize("version", ["2", "9", "10"])
def test_a_version_answers_by_its_number(client, version):
    body = {"inputs": [[1] * 6]}

    answer = client.post(url("aged", "encode", version), json=body)

    assert answer.json()["version"] == answer.headers["x-model-version"] == version


def test_versions_of_a_model_are_different_models(client):
    body = {"inputs": [[1] * 6]}
    codes = [
        client.post(url("aged", "encode", version), json=body).json()["codes"]
        for version in ("2", "9", "10")
    ]

    assert codes[0] != codes[1] != codes[2]


@pytest.mark.parametrize(
    "version",
    ["1", "3", "010", "02", "0", "-2", "2.0", "99999999999999999999", "%20", "2%0a", "²"],
)
def test_an_unknown_version_is_404_and_names_those_that_there_are(client, version):
    answer = client.post(url("aged", "encode", version), json={"inputs": [[1] * 6]})

    assert answer.status_code == 404
    assert problem(answer)["expected"] == "2, 9, 10"


@pytest.mark.parametrize("label", ["stable", "canary", "v2"])
def test_a_label_that_the_model_does_not_have_is_409(client, label):
    answer = client.post(url("aged", "encode", label), json={"inputs": [[1] * 6]})

    assert answer.status_code == 409
    assert problem(answer)["detail"] == "the model does not have this label"


@pytest.mark.parametrize(
    ("model", "operation", "has"),
    [
        ("encoder", "decode", "encode"),
        ("encoder", "reconstruct", "encode"),
        ("encoder", "anomaly-score", "encode"),
        ("other-kind", "anomaly-score", "encode or decode or reconstruct"),
    ],
)
def test_a_model_that_lacks_an_operation_is_409_and_names_what_it_has(
    client, model, operation, has
):
    answer = client.post(url(model, operation), json={"inputs": [ROW]})

    assert answer.status_code == 409
    assert problem(answer)["expected"] == has


def test_a_model_without_a_decoder_encodes(client):
    answer = client.post(url("encoder", "encode"), json={"inputs": [ROW]})

    assert answer.json()["codes"] == [ROW[:2]]


def test_a_model_whose_output_is_of_another_kind_gives_it(client):
    answer = client.post(url("other-kind", "reconstruct"), json={"inputs": [ROW]})

    assert answer.json()["reconstructions"] == [[0.25, 0.5, 0, 0]]


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(np.ones((2, 1, 4, 4)).tolist(), id="in the model's shape"),
        pytest.param(np.ones((2, 16)).tolist(), id="flat"),
    ],
)
def test_rows_come_shaped_or_flat(client, inputs):
    answer = client.post(url("picture", "encode"), json={"inputs": inputs})

    assert np.shape(answer.json()["codes"]) == (2, 1, 4, 4)


def test_flat_rows_of_free_axes_are_refused(client):
    answer = client.post(url("any-size", "encode"), json={"inputs": [[1] * 16]})

    assert answer.status_code == 422
    assert problem(answer)["expected"] == "[1, ?, ?]"


def test_a_row_has_the_same_bits_alone_and_among_others(client):
    rows = np.random.default_rng(1).random((7, 4), np.float32).tolist()
    together = client.post(url("tabular", "anomaly-score"), json={"inputs": rows}).json()["scores"]

    alone = [
        client.post(url("tabular", "anomaly-score"), json={"inputs": [row]}).json()["scores"][0]
        for row in rows
    ]

    assert alone == together


def test_a_path_may_be_escaped(client):
    answer = client.post("/v1/models/tabul%61r/encode", json={"inputs": [ROW]})

    assert answer.status_code == 200


@pytest.mark.parametrize("accept", [wire.NPY, wire.RAW])
def test_binary_codes_keep_the_dtype_of_the_graph(client, accept):
    answer = client.post(
        url("integers", "encode"), json={"inputs": [[1, 2]]}, headers={"accept": accept}
    )

    dtype = answer.headers.get("x-dtype") or answer.content[:64].decode("latin-1")
    assert "int64" in dtype or "<i8" in dtype
