"""The list of models and their cards."""

import hashlib
import platform
import time
from typing import Any

import numpy as np
import pytest

from service.errors import PackageError
from tests import tiny
from tests.api.wire import problem, url
from tests.conftest import serve
from tests.fakes import WAIT_S


@pytest.fixture
def listed(client):
    return {each["name"]: each for each in client.get("/v1/models").json()["models"]}


def test_the_list_names_every_model(listed, zoo):
    assert list(listed) == sorted(folder.name for folder in zoo.iterdir())


def test_the_list_has_the_fields_of_the_contract(listed):
    assert listed["tabular"] == {
        "name": "tabular",
        "versions": ["1"],
        "labels": {},
        "ready": True,
        "operations": ["encode", "decode", "reconstruct", "anomaly-score"],
    }


def test_versions_are_ordered_as_numbers(listed):
    assert listed["aged"]["versions"] == ["2", "9", "10"]


@pytest.mark.parametrize(
    ("model", "operations"),
    [
        ("encoder", ["encode"]),
        ("other-kind", ["encode", "decode", "reconstruct"]),
        ("plain", ["encode", "decode", "reconstruct", "anomaly-score"]),
    ],
)
def test_a_model_names_the_operations_that_it_has(client, listed, model, operations):
    card = client.get(f"/v1/models/{model}").json()

    assert listed[model]["operations"] == card["operations"] == operations


def test_a_card_without_a_version_is_that_of_the_newest(client):
    assert client.get("/v1/models/aged").json()["version"] == "10"


@pytest.mark.parametrize("version", ["2", "9", "10"])
def test_every_version_has_its_card(client, version):
    card = client.get(f"/v1/models/aged/versions/{version}").json()

    assert (card["name"], card["version"]) == ("aged", version)


def test_a_label_that_there_is_not_is_409(client):
    answer = client.get("/v1/models/aged/versions/stable")

    assert answer.status_code == 409
    problem(answer)


def test_a_card_describes_the_tensors(client):
    card = client.get("/v1/models/picture").json()

    assert card["input"] == {
        "dtype": "float32",
        "shape": [1, 4, 4],
        "range": [0, 1],
        "image": {"mode": "L", "layout": "CHW"},
        "features": None,
        "scale": None,
        "body_types": [
            *("application/json", "application/x-npy", "application/octet-stream"),
            *("image/png", "image/jpeg", "image/webp", "multipart/form-data"),
        ],
    }
    assert card["code"]["shape"] == [1, 4, 4]
    assert card["output"]["image"] == {"mode": "L", "layout": "CHW"}


def test_a_free_axis_is_null(client):
    assert client.get("/v1/models/any-size").json()["input"]["shape"] == [1, None, None]


@pytest.mark.parametrize(
    ("model", "size", "ratio"),
    [("tabular", 2, 2.0), ("mixed", 3, 2.0), ("any-size", None, None), ("integers", 2, 1.0)],
)
def test_a_card_tells_the_size_of_the_code(client, model, size, ratio):
    card = client.get(f"/v1/models/{model}").json()

    assert (card["code_size"], card["compression_ratio"]) == (size, ratio)


def test_a_card_without_a_decoder_has_no_output(client):
    card = client.get("/v1/models/encoder").json()

    assert card["output"] is None
    assert card["calibration"] is None


def test_a_card_tells_the_calibration(client):
    calibration = client.get("/v1/models/tabular").json()["calibration"]

    assert calibration["rows"] == 999
    assert "mse" in calibration["metrics"]
    assert calibration["default_metric"] == "mse"
    assert calibration["default_false_positive_rate"] == 0.01
    assert calibration["data"] == "rows of a fixed seed"


def test_the_thresholds_of_a_card_are_those_of_the_scores(client):
    thresholds = client.get("/v1/models/tabular").json()["calibration"]["thresholds"]["mse"]

    answers = {
        rate: client.post(
            url("tabular", "anomaly-score"),
            json={"inputs": [[0.5] * 4], "false_positive_rate": float(rate)},
        ).json()["threshold"]
        for rate in thresholds
    }

    assert list(thresholds) == ["0.1", "0.05", "0.01", "0.001"]
    assert {rate: np.float32(value) for rate, value in answers.items()} == thresholds


def test_a_card_names_no_threshold_that_the_sample_cannot_show(client):
    calibration = client.get("/v1/models/few").json()["calibration"]

    assert list(calibration["thresholds"]["mse"]) == ["0.1", "0.05"]


def test_a_card_tells_where_the_model_really_runs(client):
    placement = client.get("/v1/models/tabular").json()["placement"]

    assert placement["provider"] == "CPUExecutionProvider"
    assert placement["device"] == "cpu"
    assert placement["graph_nodes"].keys() == {"encode", "decode", "reconstruct", "anomaly-score"}
    assert all(nodes["CPUExecutionProvider"] >= 1 for nodes in placement["graph_nodes"].values())


def test_a_card_tells_what_a_run_costs(client):
    card = client.get("/v1/models/tabular").json()

    cost = card["placement"]["cost"]
    assert set(card["operations"]) <= cost.keys()
    for measured in cost.values():
        rows, seconds = measured["rows"], measured["seconds"]
        assert rows == [2**power for power in range(len(seconds))]
        assert all(0 < each < WAIT_S for each in seconds)
        assert measured["rows_per_s"] == pytest.approx(rows[-1] / seconds[-1], rel=1e-3)
        assert 1 <= measured["useful_rows"] <= 128


def test_a_card_tells_the_cost_of_a_graph_that_was_opened_later(tabular):
    body = {"inputs": [[0.5] * 4], "include": ["feature_errors"]}

    with serve(tabular) as client:
        before = client.get("/v1/models/tabular").json()["placement"]["cost"]
        client.post(url("tabular", "anomaly-score"), json=body)
        after = client.get("/v1/models/tabular").json()["placement"]["cost"]

    assert after.keys() - before.keys() == {"infer"}


def test_a_card_tells_whether_answers_depend_on_the_batch(tmp_path):
    rows = np.random.default_rng(3).random((4, 4), np.float32)
    for name, pair in (("steady", tiny.mixing(4, 4)), ("scaled", tiny.quantising())):
        tiny.write(tmp_path, pair, rows, name=name, code_shape=(4,), measure_invariance=True)

    with serve(tmp_path) as client:
        steady, scaled = (
            client.get(f"/v1/models/{name}").json()["batch_invariance"]
            for name in ("steady", "scaled")
        )

    assert steady.keys() == {
        *("invariant", "largest_batch", "depends_on"),
        *("provider", "onnxruntime", "machine"),
    }
    assert (steady["invariant"], steady["largest_batch"]) == (True, 128)
    assert (steady["provider"], steady["machine"]) == ("CPUExecutionProvider", platform.machine())
    assert not scaled["invariant"]
    assert scaled["depends_on"]["encode"] == ["neighbours"]


def test_a_card_does_not_claim_what_was_never_measured(client):
    assert client.get("/v1/models/tabular").json()["batch_invariance"] is None


def test_a_model_with_a_fixed_batch_has_the_same_bits_alone_and_in_company(tmp_path):
    rows = np.random.default_rng(4).random((5, 4), np.float32)
    fixed: dict[str, Any] = {"max_batch_rows": 8, "invariant": True}
    tiny.write(tmp_path, tiny.counting(), rows, code_shape=(4,), **fixed)

    with serve(tmp_path) as client:
        card = client.get("/v1/models/tiny").json()
        body = {"inputs": rows.tolist()}
        together = client.post(url("tiny", "encode"), json=body).json()["codes"]
        alone = [
            client.post(url("tiny", "encode"), json={"inputs": [row]}).json()["codes"][0]
            for row in rows.tolist()
        ]

    assert card["placement"]["fixed_batch_rows"] == 8
    assert alone == together


def test_a_model_without_one_runs_the_rows_that_came(client):
    assert client.get("/v1/models/tabular").json()["placement"]["fixed_batch_rows"] is None


def test_a_card_tells_the_checksums_of_the_files(client, zoo):
    files = client.get("/v1/models/tabular").json()["files"]

    folder = zoo / "tabular" / "1"
    assert files.keys() == {path.name for path in folder.iterdir()} - {"model.json"}
    for name, record in files.items():
        assert record["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_a_card_carries_what_the_author_wrote_down(tmp_path):
    described: dict[str, Any] = {
        "title": "A tiny model",
        "description": "for tests",
        "licence": "CC0-1.0",
        "intended_use": "none",
        "not_for": ["medicine"],
        "architecture": {"kind": "undercomplete", "loss": "mse", "layers": []},
        "training": {"seed": 7, "data": [{"name": "d", "source": "s", "licence": "l"}]},
        "quality": {"data": "d", "rows": 3, "mse": 0.5, "pca": {"components": 2, "mse": 0.6}},
        "preprocessing": {"description": "scaled inside", "scale": 2.0},
    }
    tiny.write(tmp_path, tiny.keeping(4, 2), np.zeros((2, 4), np.float32), **described)

    with serve(tmp_path) as client:
        card = client.get("/v1/models/tiny").json()

    for name in ("title", "description", "licence", "intended_use", "not_for"):
        assert card[name] == described[name]
    assert card["architecture"]["loss"] == "mse"
    assert card["training"]["data"][0]["licence"] == "l"
    assert card["quality"]["pca"] == {"components": 2, "mse": 0.6}
    assert card["preprocessing"]["scale"] == 2.0


def test_no_path_of_the_server_stands_in_a_card_or_the_list(client, zoo):
    assert str(zoo) not in client.get("/v1/models").text
    assert str(zoo) not in client.get("/v1/models/tabular").text


def test_an_empty_repository_has_no_models(tmp_path):
    with serve(tmp_path) as client:
        answer = client.get("/v1/models")

    assert answer.json() == {"models": []}


def refuse(graph, device):
    raise PackageError("ONNX Runtime does not take the graph")


def when_settled(client, model):
    """The card as soon as the model is no longer being loaded."""
    deadline = time.monotonic() + WAIT_S
    while True:
        answer = client.get(f"/v1/models/{model}")
        if answer.status_code == 200 and answer.json()["state"] != "loading":
            return answer.json()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def half_broken(tmp_path):
    """A good and a damaged model, and a good one whose newest version is damaged."""
    tiny.write_tabular(tmp_path, name="good")
    for name, version in (("bad", 1), ("mixed", 1), ("mixed", 2)):
        tiny.write_tabular(tmp_path, name=name, version=version)
    for damaged in ("bad/1", "mixed/2"):
        (tmp_path / damaged / "encoder.onnx").write_bytes(b"damaged")
    return tmp_path


@pytest.fixture
def half(half_broken):
    with serve(half_broken, required_models=("good", "mixed/1")) as client:
        yield client


def test_a_bad_package_is_listed_as_not_ready(half):
    listed = {each["name"]: each for each in half.get("/v1/models").json()["models"]}

    assert (listed["bad"]["ready"], listed["bad"]["operations"]) == (False, [])
    assert listed["good"]["ready"]
    assert listed["mixed"]["ready"]


def test_a_bad_package_answers_503_and_the_others_answer(half):
    body = {"inputs": [[0.5] * 4]}

    bad = half.post(url("bad", "encode"), json=body)
    good = half.post(url("good", "encode"), json=body)

    assert (bad.status_code, good.status_code) == (503, 200)
    assert int(bad.headers["retry-after"]) >= 1
    assert problem(bad)["detail"] == "the model could not be loaded"


def test_the_newest_version_that_is_ready_answers(half):
    body = {"inputs": [[0.5] * 4]}

    without = half.post(url("mixed", "encode"), json=body)
    newest = half.post(url("mixed", "encode", "2"), json=body)

    assert without.json()["version"] == "1"
    assert newest.status_code == 503


def test_the_card_of_a_package_that_does_not_run_says_so(tmp_path):
    rows = np.zeros((2, 4), np.float32)
    tiny.write(tmp_path, tiny.keeping(4, 2), rows)

    with serve(tmp_path, sessions=refuse, ready=False) as client:
        card = when_settled(client, "tiny")

    assert (card["state"], card["ready"]) == ("failed", False)
    assert (card["operations"], card["placement"], card["calibration"]) == ([], None, None)
