import json

import numpy as np
import pytest

from service.errors import PackageError
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.inference.providers import Device
from service.packaging import answers, calibrate_package, check_package, write_package
from service.repository.golden import read_golden_rows
from service.repository.manifest import Description, GraphFiles
from service.repository.packages import Location, read_package
from service.scoring.calibration import read_calibration
from service.settings import Settings
from service.specs import TensorSpec
from tests import tiny

ROWS = np.random.default_rng(10).random((4, 4), np.float32)
MANY = np.random.default_rng(11).random((130, 4), np.float32)


def description(**more):
    spec = TensorSpec("float32", (4,))
    return Description(
        **{
            "name": "tiny",
            "version": 1,
            "graphs": GraphFiles(encoder="encoder.onnx", decoder="decoder.onnx"),
            "input": spec,
            "code": TensorSpec("float32", (2,)),
            "output": spec,
            **more,
        }
    )


def files(pair=None):
    encoder, decoder = pair or tiny.keeping(4, 2)
    return {"encoder.onnx": encoder, "decoder.onnx": decoder}


@pytest.fixture
def package(tmp_path):
    return read_package(tiny.write(tmp_path, tiny.keeping(4, 2), ROWS))


class TestAnswers:
    def test_every_answer_of_a_model_is_given_by_its_name(self, package):
        given = answers(package, MANY)

        assert set(given) == {CODE, RECONSTRUCTION, SCORE}
        np.testing.assert_array_equal(given[CODE], MANY[:, :2])
        np.testing.assert_array_equal(given[RECONSTRUCTION], MANY * [1, 1, 0, 0])
        np.testing.assert_allclose(given[SCORE], np.square(MANY[:, 2:]).sum(axis=1) / 4, rtol=1e-6)

    def test_an_encoder_alone_gives_codes(self, tmp_path):
        encoder, _ = tiny.keeping(4, 2)
        package = read_package(tiny.write(tmp_path, (encoder, None), ROWS))

        assert set(answers(package, MANY)) == {CODE}

    def test_a_whole_file_without_a_code_gives_reconstruction_and_score(self, tmp_path):
        location = write_package(
            tmp_path,
            description(graphs=GraphFiles(autoencoder="whole.onnx"), code=None),
            {"whole.onnx": tiny.whole()},
            golden_rows=ROWS,
        )

        assert set(answers(read_package(location), MANY)) == {RECONSTRUCTION, SCORE}

    def test_rows_that_the_model_fails_on_are_a_fault_of_the_package(self, package):
        with pytest.raises(PackageError, match="fails on the rows"):
            answers(package, MANY[:, :3])


class TestWriting:
    def test_a_package_lies_where_the_repository_looks_for_it(self, tmp_path):
        location = write_package(tmp_path, description(), files(), golden_rows=ROWS)

        assert location == Location("tiny", 1, tmp_path / "tiny" / "1")
        assert sorted(path.name for path in location.folder.iterdir()) == [
            "decoder.onnx",
            "encoder.onnx",
            "golden.npz",
            "model.json",
        ]

    def test_the_files_are_those_that_were_given(self, tmp_path):
        location = write_package(tmp_path, description(), files(), golden_rows=ROWS)

        read = read_package(location).files
        assert {name: read[name] for name in files()} == files()

    def test_golden_rows_are_stored_with_the_answers_of_the_model(self, tmp_path):
        location = write_package(tmp_path, description(), files(), golden_rows=ROWS)

        golden = read_golden_rows(read_package(location).files["golden.npz"])
        np.testing.assert_array_equal(golden.rows, ROWS)
        np.testing.assert_array_equal(golden.answers[CODE], ROWS[:, :2])

    def test_a_calibration_belongs_to_the_graphs_beside_it(self, tmp_path):
        location = write_package(
            tmp_path,
            description(),
            files(),
            golden_rows=ROWS,
            calibration_rows=MANY,
            calibration_data="random rows",
        )

        package = read_package(location)
        calibration = read_calibration(package.files["calibration.npz"])
        assert calibration.model_sha256 == package.model_sha256
        facts = package.manifest.calibration
        assert facts is not None
        assert calibration.rows == facts.rows == 130
        assert facts.data == "random rows"

    def test_the_manifest_is_readable_text(self, tmp_path):
        location = write_package(
            tmp_path, description(title="Große Zahlen"), files(), golden_rows=ROWS
        )

        text = (location.folder / "model.json").read_text("utf-8")
        assert "Große Zahlen" in text
        assert json.loads(text)["schema_version"] == 1

    def test_a_graph_that_fails_in_larger_batches_is_refused(self, tmp_path):
        nodes = [
            tiny.node("Shape", ["x"], ["rows"], start=0, end=1),
            tiny.node("Gather", ["table", "rows"], ["zero"]),  # fails beyond the table's end
            tiny.node("Add", ["x", "zero"], ["z"]),
        ]
        table = {"table": np.zeros(len(ROWS) + 1, np.float32)}
        encoder = tiny.graph(nodes, ("x", "float32", [4]), [("z", "float32", [4])], table)
        alone = description(
            graphs=GraphFiles(encoder="encoder.onnx"), code=TensorSpec("float32", (4,)), output=None
        )

        with pytest.raises(PackageError, match="'encode' fails on rows such as the golden ones"):
            write_package(tmp_path, alone, {"encoder.onnx": encoder}, golden_rows=ROWS)

    def test_files_that_do_not_fit_the_description_are_not_written(self, tmp_path):
        with pytest.raises(PackageError):
            write_package(tmp_path, description(), files(tiny.keeping(4, 3)), golden_rows=ROWS)

        assert list(tmp_path.iterdir()) == []


class TestCalibrating:
    def test_scores_are_those_of_the_graph_that_serves(self, package):
        calibration = calibrate_package(package, MANY)

        np.testing.assert_array_equal(
            calibration.scores["mse"], np.sort(answers(package, MANY)[SCORE])
        )

    def test_a_model_without_a_reconstruction_cannot_be_calibrated(self, tmp_path):
        package = read_package(
            tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, output_kind="something else")
        )

        with pytest.raises(PackageError, match="no scores"):
            calibrate_package(package, MANY)


class TestChecking:
    def test_a_sound_package_tells_its_operations(self, tmp_path):
        location = tiny.write_tabular(tmp_path)

        operations = check_package(location, Settings(), Device())

        assert operations == ["encode", "decode", "reconstruct", "anomaly-score"]

    def test_a_damaged_package_is_refused(self, tmp_path):
        location = tiny.write_tabular(tmp_path)
        (location.folder / "encoder.onnx").write_bytes(b"")

        with pytest.raises(PackageError, match=r"encoder\.onnx has 0 bytes"):
            check_package(location, Settings(), Device())


def test_a_version_is_replaced_whole(tmp_path):
    location = tiny.write_tabular(tmp_path)

    tiny.write(tmp_path, tiny.keeping(4, 2), ROWS, name="tabular")

    assert sorted(path.name for path in location.folder.iterdir()) == [
        "decoder.onnx",
        "encoder.onnx",
        "golden.npz",
        "model.json",
    ]
    assert sorted(path.name for path in location.folder.parent.iterdir()) == ["1"]


def test_a_package_without_golden_rows_is_refused(tmp_path):
    with pytest.raises(PackageError, match="at least one golden row"):
        tiny.write(tmp_path, tiny.keeping(4, 2), ROWS[:0])
