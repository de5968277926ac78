import json
import os
from hashlib import sha256

import pytest

from service.errors import ConfigurationError, PackageError
from service.repository.packages import (
    MANIFEST_MAX_BYTES,
    Location,
    fingerprint,
    read_manifest,
    read_package,
    scan,
)

SPEC = {"dtype": "float32", "shape": [4]}
FILES = {"encoder.onnx": b"the encoder", "decoder.onnx": b"the decoder"}


def record(data):
    return {"sha256": sha256(data).hexdigest(), "bytes": len(data)}


def content(**more):
    return {
        "name": "ecg",
        "version": 3,
        "graphs": {"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
        "input": SPEC,
        "code": {"dtype": "float32", "shape": [2]},
        "output": SPEC,
        "files": {name: record(data) for name, data in FILES.items()},
        **more,
    }


@pytest.fixture
def location(tmp_path):
    folder = tmp_path / "ecg" / "3"
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "model.json").write_text(json.dumps(content()))
    return Location("ecg", 3, folder)


class TestReading:
    def test_a_sound_package_is_read_whole(self, location):
        package = read_package(location)

        assert package.files == FILES
        assert package.manifest.name == "ecg"

    def test_the_manifest_can_be_read_alone(self, location):
        (location.folder / "encoder.onnx").unlink()

        assert read_manifest(location).version == 3

    def test_a_fingerprint_is_that_of_the_graphs_in_their_order(self, location):
        package = read_package(location)

        assert package.model_sha256 == fingerprint(list(FILES.values()))
        assert package.model_sha256 != fingerprint(list(reversed(FILES.values())))

    def test_files_that_the_manifest_does_not_know_are_left_alone(self, location):
        (location.folder / "notes.txt").write_text("not ours")

        assert "notes.txt" not in read_package(location).files


class TestDamagedFiles:
    @pytest.fixture
    def encoder(self, location):
        """Where the encoder should be and is not."""
        path = location.folder / "encoder.onnx"
        path.unlink()
        return path

    def assert_refused(self, location, message):
        with pytest.raises(PackageError, match=rf"encoder\.onnx {message}"):
            read_package(location)

    @pytest.mark.usefixtures("encoder")
    def test_a_missing_file(self, location):
        self.assert_refused(location, "is missing")

    def test_a_file_of_the_right_size_with_other_bytes(self, location, encoder):
        encoder.write_bytes(b"The encoder")

        self.assert_refused(location, "does not have the sha-256")

    def test_a_file_that_was_cut_short(self, location, encoder):
        encoder.write_bytes(b"the")

        self.assert_refused(location, "has 3 bytes instead of 11")

    def test_a_file_that_has_grown(self, location, encoder):
        encoder.write_bytes(b"the encoder and more")

        self.assert_refused(location, "is larger than 11 bytes")

    def test_a_link_to_the_right_file(self, location, encoder):
        target = location.folder / "target"
        target.write_bytes(FILES["encoder.onnx"])
        encoder.symlink_to(target)

        self.assert_refused(location, "is a link")

    def test_a_link_to_nowhere(self, location, encoder):
        encoder.symlink_to(location.folder / "nowhere")

        self.assert_refused(location, "is a link")

    def test_a_named_pipe_does_not_hold_the_server(self, location, encoder):
        os.mkfifo(encoder)

        self.assert_refused(location, "is not a regular file")

    def test_a_folder(self, location, encoder):
        encoder.mkdir()

        self.assert_refused(location, "is not a regular file")

    def test_a_size_that_no_machine_could_hold_costs_no_memory(self, location, encoder):
        encoder.write_bytes(FILES["encoder.onnx"])
        huge = {"encoder.onnx": {"sha256": "0" * 64, "bytes": 10**30}}
        manifest = content()
        (location.folder / "model.json").write_text(
            json.dumps(manifest | {"files": manifest["files"] | huge})
        )

        self.assert_refused(location, "has 11 bytes instead of")


class TestDamagedManifests:
    @pytest.fixture
    def refused(self, location):
        def refused(text, message):
            (location.folder / "model.json").write_text(text)
            with pytest.raises(PackageError, match=message):
                read_package(location)

        return refused

    def test_a_missing_manifest(self, location):
        (location.folder / "model.json").unlink()

        with pytest.raises(PackageError, match=r"model\.json is missing"):
            read_package(location)

    def test_one_that_is_too_large(self, refused):
        refused(" " * MANIFEST_MAX_BYTES + "{}", "is larger than 1048576 bytes")

    @pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"name": "ecg"'], ids=repr)
    def test_one_that_is_not_an_object_of_json(self, refused, text):
        refused(text, r"model\.json is not valid")

    def test_one_with_an_unknown_field(self, refused):
        refused(json.dumps(content(tolerence=1)), "is not valid: tolerence: Extra inputs")

    def test_one_that_lacks_a_field(self, refused):
        short = content()
        del short["graphs"]

        refused(json.dumps(short), "is not valid: graphs: Field required")

    def test_a_fault_inside_is_named_by_its_way(self, refused):
        refused(json.dumps(content(input={"dtype": "text", "shape": [4]})), r"input\.dtype")

    @pytest.mark.parametrize("more", [{"name": "eeg"}, {"version": 4}], ids=repr)
    def test_one_that_describes_another_model_than_the_folder(self, refused, more):
        refused(json.dumps(content(**more)), "describes .*, the folder is ecg/3")

    @pytest.mark.parametrize(
        "name", ["../encoder.onnx", "a/b", "/etc/passwd", "..", ".hidden"], ids=str
    )
    def test_a_file_name_that_leads_out_of_the_folder(self, refused, name):
        files = content()["files"] | {name: record(b"")}

        refused(json.dumps(content(files=files)), r"is not valid: files")


class TestScanning:
    def test_versions_come_by_name_and_number(self, tmp_path):
        for version in ("b/2", "b/10", "a/1", "b/1"):
            (tmp_path / version).mkdir(parents=True)

        assert [str(location) for location in scan(tmp_path)] == ["a/1", "b/1", "b/2", "b/10"]

    def test_other_folders_and_files_are_passed_over(self, tmp_path):
        for folder in ("a/0", "a/01", "a/v1", "a/1.bak", "Upper/1", ".hidden/1", "empty"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "a" / "7").write_text("a file")

        assert scan(tmp_path) == []

    def test_an_empty_repository_holds_nothing(self, tmp_path):
        assert scan(tmp_path) == []

    def test_a_repository_that_is_not_there_is_refused(self, tmp_path):
        with pytest.raises(ConfigurationError, match="is not a folder"):
            scan(tmp_path / "nowhere")
