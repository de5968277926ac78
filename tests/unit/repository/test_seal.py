import json

import pytest

from service.errors import PackageError
from service.repository.packages import Location, read_manifest_text, read_package, write_manifest
from service.repository.seal import check_seal, resealed, seal_of, sealed

CONTENT = {"name": "ecg", "version": 3, "tolerance": 0.0001, "tail": {"rate": 1e-05}}


def test_a_sealed_manifest_bears_the_seal_of_what_it_says():
    text = sealed(CONTENT)

    assert json.loads(text) == CONTENT | {"seal": seal_of(text)}
    check_seal(text.encode(), json.loads(text)["seal"], "ecg/3")


def test_a_seal_is_that_of_the_content_whatever_its_layout_and_order():
    backwards = dict(reversed(CONTENT.items()))

    assert seal_of(json.dumps(backwards)) == seal_of(sealed(CONTENT))


def test_a_manifest_without_a_seal_is_taken_as_it_is():
    check_seal(json.dumps(CONTENT).encode(), None, "ecg/3")


@pytest.mark.parametrize(
    ("before", "after"),
    [("ecg", "eeg"), ("0.0001", "0.0003"), ('"tail"', '"tall"'), ("1e-05", "1E-05"), ("3", "2")],
    ids=str,
)
def test_whatever_was_changed_is_refused_with_the_way_to_mend_it(before, after):
    text = sealed(CONTENT)
    seal = json.loads(text)["seal"]
    content, mark, rest = text.partition('"seal"')
    assert before in content

    with pytest.raises(PackageError, match="if you meant to: hourglass seal ecg/3"):
        check_seal((content.replace(before, after) + mark + rest).encode(), seal, "ecg/3")


def test_sealing_again_changes_the_seal_alone():
    text = sealed(CONTENT)
    edited = text.replace("ecg", "Große Zahlen")

    assert resealed(text.encode()) == text
    again = json.loads(resealed(edited.encode()))
    assert again == CONTENT | {"name": "Große Zahlen", "seal": seal_of(edited)}


@pytest.fixture
def location(tmp_path):
    folder = tmp_path / "ecg" / "3"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("before")
    (folder / "model.json").chmod(0o640)
    return Location("ecg", 3, folder)


class TestReplacing:
    def test_a_manifest_is_replaced_and_keeps_its_mode(self, location):
        (location.folder / ".model.json.new").write_text("left behind")

        write_manifest(location, "after", instead_of=b"before")

        path = location.folder / "model.json"
        assert read_manifest_text(location) == b"after"
        assert path.stat().st_mode & 0o777 == 0o640
        assert list(location.folder.iterdir()) == [path]

    def test_one_that_somebody_else_has_changed_meanwhile_is_left(self, location):
        with pytest.raises(PackageError, match="was changed while"):
            write_manifest(location, "after", instead_of=b"other")

        assert read_manifest_text(location) == b"before"
        assert len(list(location.folder.iterdir())) == 1

    def test_a_link_is_not_followed(self, location, tmp_path):
        outside = tmp_path / "outside"
        outside.write_text("before")
        (location.folder / "model.json").unlink()
        (location.folder / "model.json").symlink_to(outside)

        with pytest.raises(PackageError, match="is a link"):
            write_manifest(location, "after", instead_of=b"before")
        assert outside.read_text() == "before"


def test_a_folder_that_is_a_link_is_refused(location, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "3").symlink_to(location.folder)

    with pytest.raises(PackageError, match=r"^the folder is a link$"):
        read_package(Location("linked", 3, tmp_path / "linked" / "3"))
