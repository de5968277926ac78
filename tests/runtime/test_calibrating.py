"""``hourglass calibrate``: what it writes, what it reports, and what it refuses."""

import json
import re
import threading

import numpy as np
import pytest

from service.bodies import npy
from service.calibrating import Choice, Study
from service.cli import main
from service.commands.console import EXIT_FAULT, EXIT_USAGE
from service.errors import PackageError
from service.offline.calibrating import Sampler
from service.offline.chunks import Answer, Chunk
from service.offline.pipeline import open_model
from service.packaging import calibrate_package, rewrite_package, write_calibration
from service.repository.manifest import CalibrationFacts
from service.repository.packages import read_manifest, read_package
from service.repository.seal import sealed
from service.scoring.calibration import read_calibration
from service.scoring.catalogue import Evidence
from service.settings import Settings
from tests import tiny
from tests.conftest import serve
from tests.unit.test_logs import untouched_logging

__all__ = ["untouched_logging"]

pytestmark = pytest.mark.usefixtures("untouched_logging")

ROWS = np.random.default_rng(8).random((5000, 4), np.float32)


@pytest.fixture
def location(tmp_path):
    """A model without calibration."""
    return tiny.write(
        tmp_path / "models", tiny.keeping(4, 2), ROWS[:4], value_range=(0, 1), title="A title"
    )


@pytest.fixture
def calibrate(tmp_path, location):
    def run(rows, *flags, model="tiny"):
        np.save(tmp_path / "rows.npy", rows)
        return main(
            [
                "calibrate",
                model,
                "--data",
                str(tmp_path / "rows.npy"),
                "--device",
                "cpu",
                "--models",
                str(tmp_path / "models"),
                *map(str, flags),
            ]
        )

    return run


def calibration_of(location):
    package = read_package(location)
    assert package.manifest.calibration is not None
    return read_calibration(package.files[package.manifest.calibration.file])


class TestWhatIsWritten:
    def test_without_a_hold_out_it_is_what_a_recipe_would_have_written(self, location, calibrate):
        package = read_package(location)

        assert calibrate(ROWS, "--hold-out", 0) == 0

        expected = calibrate_package(package, ROWS)
        assert calibration_of(location).to_bytes() == expected.to_bytes()
        assert expected.data_sha256 is not None

    def test_the_manifest_tells_rows_data_and_what_was_held_back(self, location, calibrate):
        before = read_manifest(location)

        calibrate(ROWS, "--description", "random rows, seed 8")

        manifest = read_manifest(location)
        facts = manifest.calibration
        assert facts is not None
        assert facts.file == "calibration.npz"
        assert facts.data == "random rows, seed 8"
        calibration = calibration_of(location)
        assert facts.data_sha256 == calibration.data_sha256
        assert facts.rows == calibration.rows
        assert facts.held_back is not None
        assert facts.rows + facts.held_back.rows == 5000
        assert 900 < facts.held_back.rows < 1100
        changed = ("calibration", "files", "seal")
        rest = {name: getattr(before, name) for name in changed}
        assert manifest.model_copy(update=rest) == before

    def test_the_rates_are_those_of_the_rows_held_back(self, location, calibrate):
        calibrate(ROWS, "--hold-out", 0.5)

        calibration = calibration_of(location)
        facts = read_manifest(location).calibration
        assert facts is not None
        assert facts.held_back is not None
        scores = np.square(ROWS[:, 2:]).sum(axis=1) / 4
        everything = np.sort(scores.astype(np.float32))
        for rate in facts.held_back.rates:
            assert rate.threshold == calibration.threshold("mse", rate.false_positive_rate)
            above = int((everything > np.float32(rate.threshold)).sum())
            among = int((calibration.scores["mse"] > np.float32(rate.threshold)).sum())
            assert rate.rows_above == pytest.approx(
                above - among, abs=1
            )  # scores may differ by bits
            assert rate.achieved == rate.rows_above / facts.held_back.rows
            assert rate.interval[0] <= rate.achieved <= rate.interval[1]
        assert [rate.false_positive_rate for rate in facts.held_back.rates] == [0.1, 0.01, 0.001]

    def test_a_seed_decides_which_rows_are_held_back(self, location, calibrate):
        written = []
        for seed in (1, 1, 2):
            calibrate(ROWS[:500], "--seed", seed)
            written.append(calibration_of(location).data_sha256)

        assert written[0] == written[1] != written[2]

    def test_the_server_uses_it(self, tmp_path, location, calibrate):
        calibrate(ROWS)

        with serve(tmp_path / "models") as client:
            answer = client.post(
                "/v1/models/tiny/anomaly-score",
                content=npy.render(ROWS[:9]),
                headers={"content-type": "application/x-npy"},
            )
        assert answer.json()["threshold"] == pytest.approx(
            calibration_of(location).threshold("mse", 0.01), rel=1e-6
        )

    def test_a_csv_gives_the_calibration_of_the_same_rows(self, tmp_path, location, calibrate):
        calibrate(ROWS[:300])
        from_npy = calibration_of(location)
        table = tmp_path / "rows.csv"
        np.savetxt(table, ROWS[:300], delimiter=",", fmt="%.9g")

        models = ["--models", str(tmp_path / "models"), "--device", "cpu", "--seed", "0"]
        status = main(["calibrate", "tiny", "--data", str(table), "--hold-out", "0.3", *models])

        assert status == 0
        assert calibration_of(location).rows < from_npy.rows
        assert main(["calibrate", "tiny", "--data", str(table), *models]) == 0
        assert calibration_of(location).to_bytes() == from_npy.to_bytes()


class TestReport:
    def test_it_tells_thresholds_and_what_they_did(self, calibrate, capsys):
        calibrate(ROWS)

        lines = capsys.readouterr().out.splitlines()
        assert re.match(r"tiny/1: calibrated on \d+ rows, \d+ held back; in calibration", lines[0])
        assert lines[1] == (
            "metrics: bce, knn, mae, mahalanobis, max, mse, rapp, sap, top_k; the default is mse"
        )
        assert lines[2].split("  ")[0] == "rate"
        assert [line.split("  ")[0].strip() for line in lines[3:]] == ["10 %", "1 %", "0.1 %"]

    def test_rates_that_so_few_rows_cannot_show_are_left_out(self, calibrate, capsys):
        calibrate(ROWS[:60])

        assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[3:]] == [
            "10 %"
        ]

    def test_a_rate_that_the_rows_held_back_speak_against_is_warned_of(self, calibrate, capsys):
        rows = np.zeros((2000, 4), np.float32)
        is_held = np.random.default_rng(5).random(2000) < 0.2
        rows[:, 3] = np.linspace(0, 0.1, 2000)
        rows[is_held, 3] = 1  # as no row of the calibration

        assert calibrate(rows, "--seed", 5) == 0
        assert "speak against a rate of 10 %" in capsys.readouterr().err

    def test_without_rows_held_back_it_says_so(self, calibrate, capsys):
        calibrate(ROWS[:50], "--hold-out", 0)

        assert "no rows were held back" in capsys.readouterr().out


class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            (ROWS[:9], "rows are left to calibrate on, which is too few"),
            (np.full((50, 4), 0.5, np.float32), "all rows have the same score"),
            (np.full((50, 4), 2, np.float32), "row 0: a value is out of the model's declared"),
        ],
    )
    def test_rows_that_cannot_calibrate_leave_the_package_as_it_was(
        self, location, calibrate, capsys, rows, said
    ):
        before = {path.name: path.read_bytes() for path in location.folder.iterdir()}

        assert calibrate(rows) == EXIT_FAULT
        assert said in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in location.folder.iterdir()} == before

    def test_a_model_that_does_not_reconstruct_has_no_scores(self, tmp_path, calibrate, capsys):
        pair = tiny.keeping(4, 2)[0], None
        tiny.write(tmp_path / "models", pair, ROWS[:4])

        assert calibrate(ROWS) == EXIT_FAULT
        assert "has no scores" in capsys.readouterr().err

    @pytest.mark.parametrize("flags", [["--hold-out", 1], ["--hold-out", -0.1], ["--seed", -1]])
    def test_what_is_no_share_or_seed_ends_with_2(self, calibrate, flags):
        assert calibrate(ROWS, *flags) == EXIT_USAGE

    def test_a_model_that_is_not_there_ends_with_2(self, calibrate, capsys):
        assert calibrate(ROWS, model="nobody") == EXIT_USAGE
        assert "there is no model nobody" in capsys.readouterr().err

    def test_the_calibration_of_another_model_is_refused_and_can_be_replaced(
        self, tmp_path, location, calibrate, capsys
    ):
        calibrate(ROWS[:200])
        other = tiny.write(tmp_path / "models", tiny.mixing(4, 2), ROWS[:4], name="other")
        with pytest.raises(PackageError, match="belongs to another model"):
            write_calibration(
                other, calibration_of(location), CalibrationFacts(file="x.npz", data="", rows=1)
            )

        transplant(location, other)
        checked = ["check", "--models", str(tmp_path / "models"), "--device", "cpu"]
        assert main(checked) == EXIT_FAULT
        assert "the calibration belongs to another model" in capsys.readouterr().out
        assert calibrate(ROWS[:200], model="other") == 0
        assert main(checked) == 0


def transplant(source, target):
    """Put the calibration of one package into another by hand."""
    manifest = read_manifest(source)
    (target.folder / "calibration.npz").write_bytes(
        (source.folder / "calibration.npz").read_bytes()
    )
    text = json.loads((target.folder / "model.json").read_text())
    text["files"]["calibration.npz"] = manifest.files["calibration.npz"].model_dump()
    text["calibration"] = {"file": "calibration.npz", "data": "", "rows": 1}
    (target.folder / "model.json").write_text(sealed(text))


class TestReplacing:
    def test_whoever_reads_meanwhile_has_the_old_package_or_the_new(self, location, calibrate):
        """Also one that has read the old manifest, and comes for its files after the change."""
        calibrate(ROWS[:100])
        old = read_manifest(location)
        over = threading.Event()
        faults = []

        def read():
            while not over.is_set():
                try:
                    read_package(location)
                except PackageError as error:
                    faults.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            calibrate(ROWS[:200], "--seed", 1)
        finally:
            over.set()
            reader.join()

        assert faults == []
        for name, record in old.files.items():
            assert (location.folder / name).stat().st_size == record.bytes
        assert read_manifest(location).files.keys() != old.files.keys()

    def test_only_the_last_one_is_kept(self, location, calibrate):
        for seed in range(4):
            calibrate(ROWS[:100], "--seed", seed)

        names = [path.name for path in location.folder.iterdir() if "calibration" in path.name]
        assert len(names) == 2

    def test_the_same_calibration_again_may_have_other_words(self, location, calibrate):
        calibrate(ROWS[:100])

        assert calibrate(ROWS[:100], "--description", "as before") == 0

        facts = read_manifest(location).calibration
        assert facts is not None
        assert (facts.file, facts.data) == ("calibration.npz", "as before")

    def test_a_file_that_the_package_uses_is_never_written_over(self, location):
        manifest = read_manifest(location)

        with pytest.raises(PackageError, match="is a file of the package already"):
            rewrite_package(location, manifest, {"encoder.onnx": b"something else"})

        assert read_package(location).manifest == manifest

    def test_a_manifest_that_would_not_be_valid_is_not_written(self, location):
        manifest = read_manifest(location)
        broken = manifest.model_copy(update={"files": {}})

        with pytest.raises(PackageError, match="would not be valid"):
            rewrite_package(location, broken, {})

        assert read_manifest(location) == manifest


@pytest.mark.parametrize("default", ["mse", "knn"])
def test_the_choice_does_not_depend_on_where_chunks_begin(location, default):
    rows = ROWS[:100]
    is_held = np.random.default_rng(4).random(100) < 0.3

    made = [sampled(location, rows, default, size) for size in (1, 7, 100)]

    assert len({each.calibration.to_bytes() for each in made}) == 1
    calibration, held_back = made[0].calibration, made[0].held_back
    np.testing.assert_array_equal(calibration.scores["mse"], np.sort(rows[~is_held, 0]))
    assert held_back is not None
    assert held_back.rows == is_held.sum()
    assert made[1].held_back == made[2].held_back == held_back
    assert calibration.heat_map_high == float(np.quantile(np.square(rows[~is_held]), 0.999))


def sampled(location, rows, default, size):
    """Calibrate on rows that come so many at a time, whose score is their first value."""
    with open_model(read_package(location), Settings(device="cpu")) as live:
        study = Study(live.autoencoder, Choice(default=default))
        sampler = Sampler(study, default, live.manifest.input, hold_out=0.3, seed=4)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            codes, mse = part[:, :2], part[:, 0]
            nothing = [np.zeros_like(codes)]
            evidence = Evidence(part, np.zeros_like(part), codes, [codes], nothing, mse)
            chunk = Chunk(start, len(part), part, 0, {})
            sampler.write(Answer(chunk, mse, None, evidence))
        return sampler.calibrated("0" * 64)
