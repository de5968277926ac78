"""All contenders compute the same thing, from the same bodies."""

import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from benchmarks.cases import FEATURES, JSON_1, KINDS, MODELS, RAW_1, RAW_64
from benchmarks.contenders import bare, direct, usual
from benchmarks.workload import make_body, make_workload
from tests.conftest import serve


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    return make_workload(tmp_path_factory.mktemp("workload"))


def test_json_and_raw_carry_the_same_row():
    (row,) = json.loads(make_body(JSON_1))["inputs"]

    assert np.array(row, np.float32).tobytes() == make_body(RAW_1)


def test_bodies_have_their_rows():
    assert len(make_body(RAW_64)) == 64 * FEATURES * 4


@pytest.mark.parametrize("model", MODELS)
def test_the_usual_service_gives_the_scores_of_hourglass(workload, model):
    raw = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
    body = workload.bodies[RAW_64.name].read_bytes()
    with serve(workload.repository) as ours:
        answer = ours.post(f"/v1/models/{model}/anomaly-score", content=body, headers=raw)
    with TestClient(usual.make_app(workload.autoencoders[model])) as theirs:
        same = theirs.post("/score/raw", content=body, headers=raw)
        one = theirs.post("/score", json=json.loads(workload.bodies[JSON_1.name].read_bytes()))

    scores = np.frombuffer(answer.content, np.float32)
    assert scores.shape == (64,)
    np.testing.assert_allclose(np.frombuffer(same.content, np.float32), scores, rtol=1e-5)
    np.testing.assert_allclose(one.json()["scores"], scores[:1], rtol=1e-5)


def test_the_bare_server_answers_whatever_comes():
    client = TestClient(bare.app)

    for kind in KINDS:
        assert client.post("/", content=make_body(kind)).json() == {"scores": [0.5]}


def test_onnx_runtime_alone_is_measured(workload):
    body = workload.bodies[RAW_64.name].read_bytes()
    result = direct.measure(workload.scorers[MODELS[0]], body, seconds=0.05, threads=1)

    assert set(result) == {"requests_per_s", "p50_ms", "p99_ms", "cpu_us"}
    assert all(value > 0 for value in result.values())
