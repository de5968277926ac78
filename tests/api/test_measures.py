"""Metrics beside mse, explanations, regions, uncertain verdicts and the domain, over HTTP."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service.inference.evidence import gather
from service.inference.ticket import Ticket
from service.offline.pipeline import open_model
from service.repository.packages import Location, read_package
from service.scoring import catalogue
from service.scoring.calibration import Calibration, read_calibration
from service.settings import Settings
from tests import tiny
from tests.api import wire
from tests.api.wire import JSON, NPY, PNG, RAW, problem, url
from tests.conftest import serve

NORMAL, ODD = [0.5, 0.5, 0.1, 0.1], [0.5, 0.5, 1.0, 1.0]
ROWS = np.random.default_rng(3).random((7, 4), np.float32)
METRICS = ["mse", "mae", "bce", "max", "top_k", "sap", "rapp", "mahalanobis", "knn"]
FOREIGN = [0.5, 0.5, 0.5, 0.5]  # the others hold four random numbers
ROW_OPERATIONS = ["encode", "reconstruct", "anomaly-score"]


def ask(client, rows=(NORMAL, ODD), *, model="tabular", operation="anomaly-score", **options):
    return client.post(url(model, operation), json={"inputs": np.asarray(rows).tolist(), **options})


@pytest.fixture(scope="module")
def calibration(zoo: Path) -> Calibration:
    package = read_package(Location("tabular", 1, zoo / "tabular" / "1"))
    return read_calibration(package.files["calibration.npz"])


@pytest.fixture(scope="module")
def expected(zoo: Path, calibration: Calibration) -> dict[str, np.ndarray]:
    """The scores of *ROWS* by every metric, as the catalogue has them."""
    package = read_package(Location("tabular", 1, zoo / "tabular" / "1"))
    with open_model(package, Settings(device="cpu")) as live:
        needs = catalogue.needs_of(METRICS)
        evidence = asyncio.run(gather(live.autoencoder, needs, ROWS, Ticket()))
    spec, fitted = package.manifest.input, calibration.fitted
    return {name: catalogue.score(name, evidence, spec, fitted.get(name)) for name in METRICS}


@pytest.mark.parametrize("metric", METRICS)
class TestMetrics:
    def test_a_metric_scores_as_the_catalogue_does_and_has_its_own_threshold(
        self, client, expected, calibration, metric
    ):
        answer = ask(client, ROWS, metric=metric).json()

        scores = np.array(answer["scores"], np.float32)
        assert answer["metric"] == metric
        assert scores.tobytes() == expected[metric].tobytes()
        assert np.float32(answer["threshold"]) == np.float32(calibration.threshold(metric, 0.01))
        assert answer["p_values"] == calibration.p_values(metric, scores).tolist()
        assert answer["anomalies"] == (scores > np.float32(answer["threshold"])).tolist()

    @pytest.mark.parametrize(
        "options",
        [
            {"explain": 2},
            {"include": ["feature_errors", "domain", "uncertain"]},
            {"method": "iqr"},
            {"threshold": 0.5},
        ],
        ids=str,
    )
    def test_its_bits_do_not_depend_on_what_else_is_asked(self, client, expected, metric, options):
        answer = ask(client, ROWS, metric=metric, **options).json()

        assert np.array(answer["scores"], np.float32).tobytes() == expected[metric].tobytes()

    @pytest.mark.parametrize("media", [NPY, RAW])
    def test_an_array_holds_its_scores_and_a_header_its_name(self, client, expected, metric, media):
        answer = client.post(
            url("tabular", "anomaly-score") + f"?metric={metric}",
            content=wire.npy(ROWS),
            headers={"content-type": NPY, "accept": media},
        )

        assert answer.headers["x-metric"] == metric
        assert answer.content.endswith(expected[metric].tobytes())

    def test_a_score_lies_above_the_threshold_when_its_p_value_is_not_above_the_rate(
        self, client, metric
    ):
        for rate in (0.3, 0.1, 0.02):
            answer = ask(client, ROWS, metric=metric, false_positive_rate=rate).json()

            assert answer["anomalies"] == [p <= rate for p in answer["p_values"]]


def test_a_metric_that_does_not_suit_is_409_and_names_the_others(client):
    answer = ask(client, metric="ssim")

    assert answer.status_code == 409
    assert problem(answer)["expected"] == " or ".join(sorted(METRICS))


def test_a_model_without_calibration_has_mse_alone(client):
    assert ask(client, model="plain", metric="mse").status_code == 200
    assert ask(client, model="plain", metric="mae").status_code == 409


def test_the_card_lists_the_metrics(client):
    card = client.get("/v1/models/tabular").json()["calibration"]

    assert card["metrics"] == sorted(METRICS)
    assert card["thresholds"].keys() == set(METRICS)


def test_a_model_scores_by_its_default_metric(tmp_path):
    tiny.write(
        tmp_path,
        tiny.keeping(4, 2),
        ROWS,
        calibration=np.random.default_rng(4).random((400, 4), np.float32),
        code_shape=(2,),
        default_measure="knn",
    )
    with serve(tmp_path) as client:
        plain = ask(client, ROWS, model="tiny").json()
        asked = ask(client, ROWS, model="tiny", metric="knn").json()
        other = ask(client, ROWS, model="tiny", metric="mse").json()
        v2 = client.post(
            "/v2/models/tiny/infer",
            json={
                "inputs": [
                    {
                        "name": "input",
                        "datatype": "FP32",
                        "shape": list(ROWS.shape),
                        "data": ROWS.ravel().tolist(),
                    }
                ],
                "outputs": [{"name": "score"}],
            },
        ).json()

    assert plain == asked
    assert plain["metric"] == "knn"
    assert other["scores"] != plain["scores"]
    assert v2["parameters"]["metric"] == "knn"
    found, wanted = (
        np.array(each, np.float32) for each in (v2["outputs"][0]["data"], plain["scores"])
    )
    assert found.tobytes() == wanted.tobytes()


class TestThresholds:
    @pytest.mark.parametrize(
        ("method", "options"),
        [("conformal", {"false_positive_rate": 0.02}), ("mad", {}), ("iqr", {}), ("tail", {})],
    )
    def test_a_method_gives_its_threshold_and_how_sure_it_is(
        self, client, calibration, method, options
    ):
        answer = ask(client, method=method, **options).json()

        rate = options.get("false_positive_rate", None if method in {"mad", "iqr"} else 0.01)
        found = calibration.find_threshold("mse", method, rate)
        assert answer["method"] == method
        assert np.float32(answer["threshold"]) == np.float32(found.value)
        assert answer["false_positive_rate"] == found.false_positive_rate
        assert answer["false_positive_rate_interval"] == list(found.rate_interval)
        assert answer["extrapolated"] is False

    def test_a_tail_reaches_further_than_the_calibration_and_says_so(self, client):
        answer = ask(client, method="tail", false_positive_rate=1e-6).json()

        assert answer["extrapolated"] is True
        assert answer["threshold"] > ask(client).json()["threshold"]

    def test_a_score_within_the_interval_of_the_threshold_is_uncertain(self, client, calibration):
        found = calibration.find_threshold("mse", "conformal", 0.01)
        low, high = found.interval
        assert high < 0.5
        wanted = [low * 0.5, (low + found.value) / 2, 0.5]
        errors = [float(np.sqrt(2 * score)) for score in wanted]
        rows = [[0.5, 0.5, error, error] for error in errors]

        answer = ask(client, rows, include=["uncertain"]).json()

        assert answer["anomalies"] == [False, "uncertain", True]
        assert answer["method"] == "conformal"

    @pytest.mark.parametrize(
        ("options", "status"),
        [
            ({"threshold": 1.0, "method": "tail"}, 422),
            ({"threshold": 1.0, "include": ["uncertain"]}, 422),
            ({"method": "mad", "false_positive_rate": 0.1}, 422),
            ({"method": "tail", "false_positive_rate": 0.5}, 422),
            ({"method": "magic"}, 422),
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused(self, client, options, status):
        assert ask(client, **options).status_code == status

    def test_without_calibration_no_threshold_is_found(self, client):
        assert ask(client, model="plain", method="iqr").status_code == 409
        assert ask(client, model="plain", include=["uncertain"]).status_code == 409


class TestExplanations:
    def test_the_features_with_the_largest_shares_come_first(self, client):
        row = [0.5, 0.5, 0.3, 0.9]

        (found,) = ask(client, [row], explain=3).json()["explanations"]

        assert [each["index"] for each in found] == [[3], [2], [0]]
        assert "name" not in found[0]
        assert found[0]["share"] == pytest.approx(0.81 / 0.9)
        assert found[0]["error"] == pytest.approx(0.81)
        assert (found[0]["observed"], found[0]["expected"]) == (pytest.approx(0.9), 0)
        assert found[0]["residual"] == pytest.approx(0.9)

    def test_features_that_have_names_are_named(self, tmp_path):
        names = ("flow", "pressure", "vibration", "temperature")
        tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, features=names)
        with serve(tmp_path) as client:
            (found,) = ask(client, [ODD], model="tiny", explain=2).json()["explanations"]

        assert [each["name"] for each in found] == ["vibration", "temperature"]

    def test_the_shares_of_all_features_sum_to_one(self, client):
        for row in ask(client, ROWS, explain=1000).json()["explanations"]:
            assert len(row) == 4
            assert sum(each["share"] for each in row) == pytest.approx(1, abs=1e-12)

    def test_a_corrupted_feature_is_named_first(self, client):
        rng = np.random.default_rng(6)
        rows = rng.random((100, 4), np.float32) * np.array([1, 1, 0.1, 0.1], np.float32)
        places = rng.integers(2, 4, 100)
        rows[np.arange(100), places] = 1

        found = ask(client, rows, explain=1).json()["explanations"]

        assert [row[0]["index"][0] for row in found] == places.tolist()

    def test_too_many_for_one_answer_are_refused(self, client):
        answer = ask(client, [NORMAL] * 17, explain=1000)

        assert answer.status_code == 422
        assert problem(answer)["expected"] == "explain up to 963, or fewer rows"

    @pytest.mark.parametrize("media", [NPY, RAW])
    @pytest.mark.parametrize("query", ["explain=1", "include=uncertain", "include=feature_errors"])
    def test_what_an_array_has_no_room_for_needs_json(self, client, media, query):
        answer = client.post(
            url("tabular", "anomaly-score") + "?" + query,
            json={"inputs": [NORMAL]},
            headers={"accept": media},
        )

        assert answer.status_code == 422


class TestRegions:
    def test_a_box_lies_around_the_errors_of_a_picture(self, client):
        picture = np.zeros((4, 4), np.uint8)
        picture[1:3, 3] = 255

        answer = client.post(
            url("picture", "anomaly-score") + "?include=regions",
            content=wire.picture(picture),
            headers={"content-type": PNG},
        ).json()

        (region,) = answer["regions"][0]
        assert {**region, "error": 0, "share": 0} == {
            "top": 1,
            "left": 3,
            "height": 2,
            "width": 1,
            "pixels": 2,
            "error": 0,
            "share": 0,
        }
        assert region["share"] == pytest.approx(1)

    def test_rows_of_a_table_have_none(self, client):
        assert ask(client, include=["regions"]).status_code == 409


class TestDomain:
    @pytest.mark.parametrize("operation", ROW_OPERATIONS)
    def test_every_operation_tells_rows_of_its_kind_from_others(self, client, operation):
        rows = np.concatenate([ROWS, [FOREIGN]])

        answer = ask(client, rows, operation=operation, include=["domain"])

        body = answer.json()
        assert body["domain"] == ["in"] * 7 + ["out"]
        assert all(
            (p > 0.01) == (domain == "in")
            for p, domain in zip(body["domain_p_values"], body["domain"], strict=True)
        )
        assert answer.headers["x-domain"] == "in=7, out=1"

    def test_codes_are_judged_by_their_neighbours(self, client):
        answer = ask(client, [[0.5, 0.5], [9, -9]], operation="decode", include=["domain"])

        assert answer.json()["domain"] == ["in", "out"]
        assert answer.headers["x-domain"] == "in=1, out=1"

    @pytest.mark.parametrize("operation", [*ROW_OPERATIONS, "decode"])
    @pytest.mark.parametrize("media", [JSON, NPY, RAW])
    def test_what_is_asked_beside_does_not_change_the_answer(self, client, operation, media):
        rows = ROWS[:, :2] if operation == "decode" else ROWS
        headers = {"content-type": NPY, "accept": media}
        path, body = url("tabular", operation), wire.npy(rows)

        plain = client.post(path, content=body, headers=headers)
        guarded = client.post(path + "?include=domain", content=body, headers=headers)

        assert "x-domain" in guarded.headers
        assert "x-domain" not in plain.headers
        if media == JSON:
            more = {"domain", "domain_p_values"}
            assert {k: v for k, v in guarded.json().items() if k not in more} == plain.json()
        else:
            assert guarded.content == plain.content

    @pytest.mark.parametrize("operation", ["encode", "decode", "reconstruct", "anomaly-score"])
    def test_a_model_that_was_not_calibrated_for_it_says_so(self, client, operation):
        rows = ROWS[:, :2] if operation == "decode" else ROWS

        answer = ask(client, rows, model="plain", operation=operation, include=["domain"])

        assert answer.status_code == 409

    def test_the_server_can_look_at_every_row(self, zoo):
        with serve(zoo, domain_guard="always", required_models=("tabular", "plain")) as client:
            seen = ask(client, ROWS)
            plain = ask(client, ROWS, model="plain")
            text = client.get("/metrics").text

        assert "domain" not in seen.json()
        parts = seen.headers["x-domain"].split(", ")
        inside, outside = (int(part.partition("=")[2]) for part in parts)
        assert inside + outside == 7
        assert "x-domain" not in plain.headers
        name, labels = "hourglass_domain_rows_total", {"model": "tabular", "version": "1"}
        assert wire.sample(text, name, **labels, domain="in") == inside
        assert wire.sample(text, name, **labels, domain="out") == outside
