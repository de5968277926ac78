"""Anomaly scores: thresholds, p-values, verdicts, options, and bits that never change."""

import io
from math import ceil
from pathlib import Path

import numpy as np
import pytest

from service.repository.packages import Location, read_package
from service.scoring.calibration import read_calibration
from tests.api import wire
from tests.api.wire import JSON, NPY, PNG, RAW, problem, url

NORMAL, ODD = [0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]
SCORES = url("tabular", "anomaly-score")


@pytest.fixture
def reference(zoo: Path) -> np.ndarray:
    """The calibration scores of the tabular model, ascending."""
    package = read_package(Location("tabular", 1, zoo / "tabular" / "1"))
    scores = read_calibration(package.files["calibration.npz"]).scores["mse"]
    return scores.astype(np.float64)


def kth_smallest(reference: np.ndarray, rate: float) -> float:
    return float(reference[ceil(round((1 - rate) * (len(reference) + 1), 9)) - 1])


def score(client, rows=(NORMAL, ODD), model="tabular", query="", **options):
    body = {"inputs": list(rows), **options}
    return client.post(url(model, "anomaly-score") + query, json=body)


def test_the_answer_has_the_fields_of_the_contract(client):
    answer = score(client).json()

    assert answer.keys() == {
        *("model", "version", "metric", "scores", "threshold"),
        *("false_positive_rate", "p_values", "anomalies"),
    }
    assert answer["metric"] == "mse"
    assert answer["false_positive_rate"] == 0.01


def test_the_default_threshold_is_that_of_one_percent(client, reference):
    answer = score(client).json()

    assert np.float32(answer["threshold"]) == kth_smallest(reference, 0.01)


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.05, 0.007, 0.001])
def test_a_rate_gives_its_threshold(client, reference, rate):
    answer = score(client, false_positive_rate=rate).json()

    assert np.float32(answer["threshold"]) == kth_smallest(reference, rate)
    assert answer["false_positive_rate"] == rate


def test_a_p_value_counts_the_calibration_scores_that_are_as_high(client, reference):
    answer = score(client).json()

    n = len(reference)
    wanted = [
        (1 + (reference >= each).sum()) / (1 + n) for each in np.array(answer["scores"], np.float32)
    ]
    assert answer["p_values"] == wanted


def test_what_lies_above_the_threshold_is_an_anomaly(client):
    answer = score(client, rows=[NORMAL, ODD, NORMAL]).json()

    assert answer["anomalies"] == [False, True, False]


def test_a_score_equal_to_the_threshold_is_no_anomaly(client):
    answer = score(client, rows=[[0, 0, 0.5, 0.5]], threshold=0.125).json()

    assert answer["scores"] == [0.125]
    assert answer["anomalies"] == [False]


def test_a_threshold_of_ones_own_comes_back_as_it_was_given(client):
    answer = score(client, threshold=0.1).json()

    assert answer["threshold"] == 0.1


def test_a_threshold_of_ones_own_names_the_rate_that_it_stands_for(client, reference):
    answer = score(client, threshold=0.25).json()

    n = len(reference)
    assert answer["false_positive_rate"] == (1 + (reference >= 0.25).sum()) / (1 + n)


@pytest.mark.parametrize(
    ("threshold", "anomalies"),
    [(-1.0, [True, True]), (0, [True, True]), (1e9, [False, False]), (1e300, [False, False])],
)
def test_any_finite_threshold_is_understood(client, threshold, anomalies):
    answer = score(client, threshold=threshold)

    assert answer.status_code == 200
    assert answer.json()["anomalies"] == anomalies


@pytest.mark.parametrize(
    ("query", "options"),
    [
        pytest.param("?threshold=0.1", {"threshold": 0.1}, id="threshold"),
        pytest.param("?false_positive_rate=0.1", {"false_positive_rate": 0.1}, id="rate"),
        pytest.param("?metric=mse", {"metric": "mse"}, id="metric"),
        pytest.param(
            "?include=feature_errors", {"include": ["feature_errors"]}, id="feature errors"
        ),
    ],
)
def test_an_option_means_the_same_in_the_query_and_in_the_body(client, query, options):
    in_query = score(client, query=query)
    in_body = score(client, **options)

    assert in_query.status_code == in_body.status_code == 200
    assert in_query.json() == in_body.json()


@pytest.mark.parametrize(
    ("query", "options"),
    [
        pytest.param("?threshold=0.1", {"threshold": 0.1}, id="the same twice"),
        pytest.param("?metric=mse", {"metric": "other"}, id="contradicting"),
        pytest.param("?threshold=0.1", {"false_positive_rate": 0.1}, id="rate and threshold"),
        pytest.param("?threshold=0.1&false_positive_rate=0.1", {}, id="both in the query"),
        pytest.param("", {"threshold": 0.1, "false_positive_rate": 0.1}, id="both in the body"),
        pytest.param("?threshold=0.1&threshold=0.1", {}, id="twice in the query"),
    ],
)
def test_an_option_given_twice_is_422(client, query, options):
    answer = score(client, query=query, **options)

    assert answer.status_code == 422
    problem(answer)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        pytest.param("?colour=red", {}, id="unknown in the query"),
        pytest.param("", {"colour": "red"}, id="unknown in the body"),
        pytest.param("", {"explain_it": 3}, id="another unknown"),
        pytest.param("?threshold=high", {}, id="no number"),
        pytest.param("?threshold=nan", {}, id="not a number"),
        pytest.param("?threshold=inf", {}, id="infinity"),
        pytest.param("?threshold=", {}, id="empty"),
        pytest.param("", {"threshold": "0.1"}, id="a number as text"),
        pytest.param("", {"threshold": True}, id="a boolean"),
        pytest.param("", {"threshold": [0.1]}, id="a list"),
        pytest.param("", {"metric": 3}, id="metric of a wrong type"),
        pytest.param("", {"include": ["everything"]}, id="unknown part"),
        pytest.param("?include=feature_errors,everything", {}, id="unknown part in the query"),
        pytest.param("", {"include": {"feature_errors": 1}}, id="parts as an object"),
        pytest.param("?false_positive_rate=0", {}, id="rate 0"),
        pytest.param("?false_positive_rate=1", {}, id="rate 1"),
        pytest.param("?false_positive_rate=-0.1", {}, id="negative rate"),
        pytest.param("?resize=true", {}, id="resize of what is no picture"),
        pytest.param("", {"resize": True}, id="resize in the body"),
    ],
)
def test_a_wrong_option_is_422(client, query, options):
    answer = score(client, query=query, **options)

    assert answer.status_code == 422
    problem(answer)


@pytest.mark.parametrize("operation", ["encode", "decode", "reconstruct"])
def test_options_of_scores_are_unknown_elsewhere(client, operation):
    answer = client.post(url("tabular", operation), json={"inputs": [[0.5] * 4], "threshold": 0.1})

    assert answer.status_code == 422


def test_an_unknown_option_is_refused_with_the_names_of_those_there_are(client):
    body = problem(score(client, colour="red"))

    assert "false_positive_rate" in body["expected"]
    assert "colour" not in str(body)


def test_a_metric_that_the_model_is_not_calibrated_for_is_409(client):
    answer = score(client, metric="ssim")

    assert answer.status_code == 409
    assert "mse or rapp" in problem(answer)["expected"]


@pytest.mark.parametrize(
    ("model", "rate", "smallest"), [("tabular", 0.0009, "0.001"), ("few", 0.01, "0.05")]
)
def test_a_rate_rarer_than_the_sample_is_422_and_names_the_smallest(client, model, rate, smallest):
    answer = score(client, model=model, false_positive_rate=rate)

    assert answer.status_code == 422
    assert smallest in problem(answer)["detail"]
    assert problem(answer)["expected"] == f"false_positive_rate >= {smallest}"


def test_a_small_sample_has_its_smallest_rate_as_the_default(client):
    answer = score(client, model="few").json()

    assert answer["false_positive_rate"] == pytest.approx(0.05)
    assert answer["p_values"][1] >= 0.05


def test_a_model_without_calibration_answers_scores_alone(client):
    answer = score(client, model="plain").json()

    assert answer["scores"] == score(client).json()["scores"]
    for name in ("threshold", "false_positive_rate", "p_values", "anomalies"):
        assert answer[name] is None


def test_a_model_without_calibration_takes_a_threshold(client):
    answer = score(client, model="plain", threshold=0.1).json()

    assert (answer["threshold"], answer["anomalies"]) == (0.1, [False, True])
    assert answer["p_values"] is None


@pytest.mark.parametrize("options", [{"false_positive_rate": 0.01}, {"metric": "mae"}])
def test_a_model_without_calibration_has_no_rates_and_no_other_metric(client, options):
    answer = score(client, model="plain", **options)

    assert answer.status_code == 409


def test_feature_errors_have_the_shape_of_the_rows_and_the_score_as_their_mean(client):
    rows = np.random.default_rng(3).random((3, 1, 4, 4), np.float32)

    answer = score(client, rows.tolist(), "picture", include=["feature_errors"]).json()

    errors = np.array(answer["feature_errors"])
    assert errors.shape == rows.shape
    np.testing.assert_allclose(errors, np.square(rows / 2), rtol=1e-6)
    np.testing.assert_allclose(errors.mean(axis=(1, 2, 3)), answer["scores"], rtol=1e-6)


@pytest.mark.parametrize("accept", [NPY, RAW])
def test_feature_errors_need_a_json_answer(client, accept):
    answer = client.post(
        SCORES + "?include=feature_errors",
        json={"inputs": [NORMAL]},
        headers={"accept": accept},
    )

    assert answer.status_code == 422


@pytest.mark.parametrize("model", ["mixed", "picture"])
def test_the_bits_of_a_score_are_the_same_whatever_is_asked_for(client, model):
    shape = (5, 6) if model == "mixed" else (5, 1, 4, 4)
    rows = np.random.default_rng(4).random(shape, np.float32).tolist()
    plain = score(client, rows, model).json()["scores"]

    others = [
        score(client, rows, model, **options).json()["scores"]
        for options in (
            {"include": ["feature_errors"]},
            {"threshold": 0.5},
            {"false_positive_rate": 0.5},
            {"metric": "mse"},
        )
    ]

    assert all(scores == plain for scores in others)


def test_the_bits_of_a_score_are_the_same_in_every_rendering(client):
    body = {"inputs": np.random.default_rng(4).random((5, 6)).tolist()}
    path = url("mixed", "anomaly-score")

    as_json = client.post(path, json=body, headers={"accept": JSON}).json()["scores"]
    as_npy = np.load(io.BytesIO(client.post(path, json=body, headers={"accept": NPY}).content))
    as_raw = client.post(path, json=body, headers={"accept": RAW}).content

    assert np.array(as_json, np.float32).tobytes() == as_npy.tobytes() == as_raw


@pytest.mark.parametrize("accept", [NPY, RAW])
def test_a_binary_answer_names_metric_and_threshold_in_headers(client, accept):
    answer = client.post(SCORES, json={"inputs": [NORMAL, ODD]}, headers={"accept": accept})

    threshold = score(client).json()["threshold"]
    assert answer.headers["x-metric"] == "mse"
    assert float(answer.headers["x-threshold"]) == threshold


def test_a_binary_answer_without_calibration_names_no_threshold(client):
    answer = client.post(
        url("plain", "anomaly-score"), json={"inputs": [NORMAL]}, headers={"accept": RAW}
    )

    assert answer.headers["x-metric"] == "mse"
    assert "x-threshold" not in answer.headers


@pytest.mark.parametrize("query", ["", "?threshold=0.01", "?false_positive_rate=0.5"])
def test_a_heat_map_is_drawn_on_the_scale_of_the_calibration(client, zoo, query):
    rows = np.stack([np.full((1, 4, 4), level, np.float32) for level in (0.0, 0.1, 1.0)])

    answer = client.post(
        url("picture", "anomaly-score") + query,
        json={"inputs": rows.tolist()},
        headers={"accept": PNG},
    )

    package = read_package(Location("picture", 1, zoo / "picture" / "1"))
    high = read_calibration(package.files["calibration.npz"]).heat_map_high
    errors = np.square(rows / 2).astype(np.float64)[:, 0]
    tiles = np.rint(255 * np.clip(errors / high, 0, 1))
    assert np.array_equal(wire.pixels(answer.content), wire.sheet(list(tiles)))


def test_a_heat_map_without_calibration_cannot_be_given(client):
    answer = client.post(
        url("sketch", "anomaly-score"),
        json={"inputs": np.zeros((1, 16)).tolist()},
        headers={"accept": PNG},
    )

    assert answer.status_code == 406
    assert "image/png" not in problem(answer)["expected"]


def test_a_model_whose_threshold_is_zero_answers(client):
    answer = score(client, [[0, 0, 0, 0], [0, 0, 1, 1]], "flawless")

    assert answer.status_code == 200
    assert answer.json()["threshold"] == 0
    assert answer.json()["anomalies"] == [False, True]
