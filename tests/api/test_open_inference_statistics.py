"""Statistics: what a model has done, as load generators subtract it before and after."""

import time

import numpy as np
import pytest

from tests.api.tensors import arrays, infer_url, json_request, wanted
from tests.api.wire import url
from tests.conftest import serve

ROWS = np.random.default_rng(22).random((3, 4), np.float32)
TABULAR = infer_url("tabular")
PHASES = ("queue", "compute_input", "compute_infer", "compute_output")


@pytest.fixture
def fresh(models):
    """A server that has done nothing yet."""
    with serve(models) as client:
        yield client


def statistics(client, model="tabular"):
    (found,) = client.get(f"/v2/models/{model}/stats").json()["model_stats"]
    return found


def test_before_the_first_request_all_is_zero(fresh):
    found = statistics(fresh)

    assert (found["name"], found["version"]) == ("tabular", "1")
    assert found["last_inference"] == found["inference_count"] == found["execution_count"] == 0
    assert found["batch_stats"] == []
    nothing = {"count": 0, "ns": 0}
    assert found["inference_stats"] == dict.fromkeys(
        ("success", "fail", *PHASES, "cache_hit", "cache_miss"), nothing
    )


def test_requests_rows_and_runs_are_counted(fresh):
    for _ in range(4):
        arrays(fresh.post(TABULAR, content=json_request(ROWS, outputs=wanted("code"))))

    found = statistics(fresh)
    assert found["inference_count"] == 12
    assert found["execution_count"] == 4
    assert found["inference_stats"]["success"]["count"] == 4
    assert found["inference_stats"]["fail"] == {"count": 0, "ns": 0}
    (batch,) = found["batch_stats"]
    assert batch["batch_size"] == 3
    assert batch["compute_infer"]["count"] == 4
    assert batch["compute_infer"]["ns"] > 0


def test_the_phases_of_a_request_are_within_the_whole(fresh):
    arrays(fresh.post(TABULAR, content=json_request(ROWS)))

    told = statistics(fresh)["inference_stats"]
    assert all(told[phase]["count"] == 1 for phase in PHASES)
    assert told["compute_infer"]["ns"] > 0
    assert sum(told[phase]["ns"] for phase in PHASES) <= told["success"]["ns"]


def test_a_request_that_fails_counts_as_such(fresh):
    fresh.post(TABULAR, content=b"{}")

    told = statistics(fresh)["inference_stats"]
    assert told["fail"]["count"] == 1
    assert told["fail"]["ns"] > 0
    assert told["success"] == told["queue"] == {"count": 0, "ns": 0}


def test_operations_of_the_other_protocol_count_too(fresh):
    for operation in ("encode", "reconstruct", "anomaly-score"):
        fresh.post(url("tabular", operation), json={"inputs": ROWS.tolist()})

    assert statistics(fresh)["inference_count"] == 9
    assert statistics(fresh)["execution_count"] == 3


def test_the_decoder_has_its_own(fresh):
    codes = ROWS[:, :2].copy()
    fresh.post(url("tabular", "decode"), json={"inputs": codes.tolist()})
    body = json_request(codes, name="code")
    arrays(fresh.post(infer_url("tabular.decoder"), content=body))
    fresh.post(infer_url("tabular.decoder"), content=b"{}")

    decoder, whole = statistics(fresh, "tabular.decoder"), statistics(fresh)
    assert decoder["inference_count"] == 6
    assert decoder["execution_count"] == 2
    assert decoder["inference_stats"]["fail"]["count"] == 1
    assert whole["inference_count"] == whole["execution_count"] == 0
    assert whole["inference_stats"]["fail"]["count"] == 0


def test_the_last_inference_has_its_time(fresh):
    before = time.time()
    arrays(fresh.post(TABULAR, content=json_request(ROWS)))
    after = time.time()

    # of two clocks, each in whole milliseconds
    assert before * 1e3 - 5 <= statistics(fresh)["last_inference"] <= after * 1e3 + 5


def test_asking_again_changes_nothing(fresh):
    arrays(fresh.post(TABULAR, content=json_request(ROWS)))

    first, second = statistics(fresh), statistics(fresh)
    assert abs(first.pop("last_inference") - second.pop("last_inference")) <= 5
    assert first == second


def test_all_models_at_once_and_one_version_alone(fresh, client):
    every = fresh.get("/v2/models/stats").json()["model_stats"]
    aged = client.get("/v2/models/aged/stats").json()["model_stats"]
    one = client.get("/v2/models/aged/versions/9/stats").json()["model_stats"]

    assert [each["name"] for each in every] == [
        *("picture", "picture.decoder", "tabular", "tabular.decoder")
    ]
    assert [(each["name"], each["version"]) for each in aged] == [
        *(("aged", "2"), ("aged", "9"), ("aged", "10"))
    ]
    assert [(each["name"], each["version"]) for each in one] == [("aged", "9")]
