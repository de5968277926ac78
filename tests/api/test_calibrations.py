"""Calibrations over HTTP: made, listed, chosen, taken back; and what keeps them from it."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.cli import main
from service.errors import ConfigurationError
from service.repository.calibrations import calibrations_of
from service.repository.packages import Location
from tests import tiny
from tests.api import wire
from tests.api.wire import NPY, problem, url
from tests.conftest import serve

PATH = "/v1/models/tabular/versions/1/calibrations"
RNG = np.random.default_rng(11)
# errors a tenth of those that the package knows
QUIET = (RNG.random((400, 4)) * [1, 1, 0.1, 0.1]).astype(np.float32)
ROW = [0.5, 0.5, 0.3, 0.3]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("models")
    tiny.write_tabular(folder)
    tiny.write(folder, (tiny.keeping(4, 2)[0], None), QUIET[:4], name="encoder")
    tiny.write_picture(folder)
    return folder


@pytest.fixture
def client(models, tmp_path):
    with serve(models, state=tmp_path / "state") as client:
        yield client


def make(client, rows=QUIET, path=PATH, **options):
    return client.post(
        path,
        params={"name": "quiet", **options},
        content=wire.npy(rows),
        headers={"content-type": NPY},
    )


def score(client, **options):
    body = {"inputs": [ROW], **options}
    return client.post(url("tabular", "anomaly-score"), json=body).json()


class TestMaking:
    def test_it_counts_from_now_on(self, client):
        before = score(client)

        answer = make(client, description="quiet rows")

        made = answer.json()
        assert answer.status_code == 201
        assert made["active"] is True
        assert made["calibration"]["description"] == "quiet rows"
        assert (made["calibration"]["name"], made["calibration"]["version"]) == ("quiet", 1)
        assert made["calibration"]["rows"] == 400
        after = score(client)
        assert before["anomalies"] == [False]
        assert after["anomalies"] == [True]
        assert after["scores"] == before["scores"]
        assert after["threshold"] == made["thresholds"]["mse"]["0.01"] < before["threshold"]
        errors = np.sort(np.square(QUIET[:, 2:]).sum(axis=1) / 4)
        assert after["threshold"] == pytest.approx(float(errors[396]))

    def test_the_card_and_the_metrics_go_by_it(self, client):
        make(client, metrics="mse,mae", description="quiet rows")
        score(client)

        card = client.get("/v1/models/tabular").json()["calibration"]

        assert (card["name"], card["version"], card["data"]) == ("quiet", 1, "quiet rows")
        assert card["metrics"] == ["mae", "mse"]
        labels = {"model": "tabular", "version": "1"}
        assert wire.number(client, "hourglass_anomalies_total", **labels) == 1

    def test_rows_and_options_may_come_as_json(self, client):
        body = {
            "inputs": QUIET.tolist(),
            "name": "json",
            "metrics": ["knn"],
            "default_metric": "knn",
        }

        answer = client.post(PATH, json=body)

        assert answer.status_code == 201
        assert answer.json()["calibration"]["metrics"] == ["knn"]
        assert score(client)["metric"] == "knn"

    def test_it_may_wait_until_it_is_chosen(self, client):
        before = score(client)

        made = make(client, activate="false").json()

        assert made["active"] is False
        assert score(client) == before
        assert client.get(PATH).json()["active"] is None

    def test_numbers_go_up_within_a_name(self, client):
        versions = [make(client).json()["calibration"]["version"] for _ in range(3)]

        assert versions == [1, 2, 3]

    def test_pictures_calibrate_too(self, client):
        pictures = [wire.picture(RNG.integers(0, 255, (4, 4), np.uint8)) for _ in range(50)]

        answer = client.post(
            "/v1/models/picture/versions/1/calibrations?name=pictures", files=wire.form(*pictures)
        )

        assert answer.status_code == 201
        assert answer.json()["calibration"]["rows"] == 50

    def test_it_is_there_after_a_restart_and_for_the_commands(
        self, models, tmp_path, client, capsys
    ):
        make(client, description="quiet rows")
        during = score(client)

        with serve(models, state=tmp_path / "state") as again:
            assert score(again) == during
        flags = ["--models", str(models), "--state", str(tmp_path / "state")]
        assert main(["calibrations", "tabular", *flags]) == 0

        head, _, line = capsys.readouterr().out.splitlines()
        assert head == "tabular/1 is judged by quiet/1"
        assert line.split()[:2] == ["*", "quiet/1"]
        assert line.endswith("quiet rows")


class TestChoosing:
    def test_choices_can_be_made_and_taken_back(self, client):
        own = score(client)["threshold"]
        make(client)
        first = score(client)["threshold"]
        make(client, QUIET / 2)
        second = score(client)["threshold"]
        assert own > first > second

        listed = client.put(f"{PATH}/active", json={"name": "quiet", "version": 1}).json()
        assert listed["active"] == {"name": "quiet", "version": 1}
        assert [each["version"] for each in listed["calibrations"]] == [1, 2]
        assert score(client)["threshold"] == first

        thresholds, active = [], []
        for _ in range(3):
            active.append(client.delete(f"{PATH}/active").json()["active"])
            thresholds.append(score(client)["threshold"])

        assert thresholds == [second, first, own]
        assert active[0] == {"name": "quiet", "version": 2}
        assert active[2] is None
        assert client.delete(f"{PATH}/active").status_code == 409

    def test_the_newest_of_a_name_is_chosen_without_a_number(self, client):
        make(client)
        make(client, QUIET / 2, activate="false")

        listed = client.put(f"{PATH}/active", json={"name": "quiet"}).json()

        assert listed["active"] == {"name": "quiet", "version": 2}

    def test_one_that_is_not_there_is_409_and_changes_nothing(self, client):
        make(client)
        before = score(client)

        assert client.put(f"{PATH}/active", json={"name": "loud"}).status_code == 409
        assert score(client) == before

    def test_one_for_other_weights_is_told_and_refused(self, client, models, tmp_path):
        make(client)
        folder = calibrations_of(tmp_path / "state", Location("tabular", 1, models))
        file = folder / "quiet" / "1.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"model_sha256": "0" * 64}))

        (listed,) = client.get(PATH).json()["calibrations"]

        assert listed["usable"] is False
        assert client.put(f"{PATH}/active", json={"name": "quiet"}).status_code == 409
        with serve(models, state=tmp_path / "state") as again:
            assert again.get("/v1/models/tabular").json()["calibration"]["name"] is None

    def test_a_damaged_one_keeps_its_model_from_serving(self, client, models, tmp_path):
        make(client)
        folder = calibrations_of(tmp_path / "state", Location("tabular", 1, models))
        (folder / "quiet" / "1.npz").write_bytes(b"nothing")

        settings = {"state": tmp_path / "state", "required_models": ("picture",)}
        with serve(models, **settings) as again:
            assert again.get("/v1/models/tabular").json()["state"] == "failed"


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "options", "status"),
        [
            (QUIET[:5], {}, 422),
            (QUIET[:20], {"metrics": "rapp"}, 422),
            (np.full((50, 4), 0.5, np.float32), {}, 422),
            (QUIET + 2, {}, 422),
            (QUIET, {"name": "No Name"}, 422),
            (QUIET, {"metrics": "magic"}, 409),
            (QUIET, {"metrics": "ssim"}, 409),
            (QUIET, {"colour": "red"}, 422),
        ],
        ids=str,
    )
    def test_what_cannot_be_leaves_all_as_it_was(self, client, rows, options, status):
        before = score(client)

        answer = make(client, rows, **options)

        assert answer.status_code == status, answer.text
        assert score(client) == before
        assert client.get(PATH).json()["calibrations"] == []

    def test_without_a_name_it_is_422(self, client):
        answer = client.post(PATH, content=wire.npy(QUIET), headers={"content-type": NPY})

        assert answer.status_code == 422
        assert problem(answer)["expected"] == "the option name"

    @pytest.mark.parametrize("method", ["post", "put", "delete"])
    def test_without_a_state_folder_it_is_409(self, models, method):
        path = PATH if method == "post" else f"{PATH}/active"
        body = {} if method == "delete" else {"json": {"name": "x", "inputs": [ROW]}}
        if method == "put":
            body = {"json": {"name": "x"}}
        with serve(models) as client:
            answer = getattr(client, method)(path, **body)
            listed = client.get(PATH).json()

        assert answer.status_code == 409
        assert "HOURGLASS_STATE" in problem(answer)["expected"]
        assert listed["calibrations"] == []

    def test_a_model_without_scores_is_409(self, client):
        answer = make(client, path="/v1/models/encoder/versions/1/calibrations")

        assert answer.status_code == 409

    def test_a_folder_that_cannot_be_written_is_503(self, models, tmp_path):
        with serve(models, state=tmp_path / "state") as client:
            (tmp_path / "state" / "calibrations").write_text("no folder")
            assert make(client).status_code == 503

    def test_a_state_that_is_no_folder_keeps_the_server_from_starting(self, models, tmp_path):
        (tmp_path / "file").write_text("no folder")

        with pytest.raises(ConfigurationError), serve(models, state=tmp_path / "file"):
            pass

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"name": 3}', b'{"nom": "x"}'])
    def test_a_choice_that_is_none_is_422(self, client, body):
        headers = {"content-type": "application/json"}

        assert client.put(f"{PATH}/active", content=body, headers=headers).status_code == 422
