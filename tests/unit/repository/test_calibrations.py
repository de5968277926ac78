"""Stored calibrations: named, numbered, activated, taken back; whole files or none."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from service.errors import InvalidRowsError, PackageError, UnsupportedOperationError
from service.repository.calibrations import (
    ACTIVE_FILE,
    MAX_HISTORY,
    activate,
    active_calibration,
    find_calibration,
    list_calibrations,
    load_calibration,
    revert,
    save_calibration,
)
from service.scoring.calibration import calibrate

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


def calibration(*scores):
    return calibrate(
        {"mse": np.array(scores or (1, 2, 3), np.float32), "mae": np.ones(2, np.float32)},
        default_measure="mse",
        errors=np.ones(1, np.float32),
        model_sha256="abc",
        data_sha256="def",
    )


def labels(found):
    return [f"{one.name}/{one.version}" for one in found]


def test_what_was_saved_is_described_and_read_back(tmp_path):
    made = save_calibration(tmp_path / "new", "night-shift", calibration(4, 5, 6), now=NOW)

    assert list_calibrations(tmp_path / "new") == [made]
    assert (made.name, made.version, made.created) == ("night-shift", 1, NOW)
    assert (made.rows, made.measures, made.default_measure) == (3, ("mae", "mse"), "mse")
    assert (made.model_sha256, made.data_sha256) == ("abc", "def")
    assert load_calibration(tmp_path / "new", made).scores["mse"].tolist() == [4, 5, 6]


def test_every_calibration_of_a_name_has_a_number_of_its_own(tmp_path):
    for name in ("b", "a", "b", "b"):
        save_calibration(tmp_path, name, calibration(), now=NOW)

    assert labels(list_calibrations(tmp_path)) == ["a/1", "b/1", "b/2", "b/3"]
    assert find_calibration(tmp_path, "b").version == 3
    assert find_calibration(tmp_path, "b", 2).version == 2


def test_many_who_save_at_once_get_different_numbers(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(
                lambda score: save_calibration(tmp_path, "a", calibration(score), now=NOW),
                range(16),
            )
        )

    assert sorted(one.version for one in made) == list(range(1, 17))
    for score, one in enumerate(made):
        assert load_calibration(tmp_path, one).scores["mse"].tolist() == [score]


def test_ten_comes_after_nine(tmp_path):
    for _ in range(11):
        save_calibration(tmp_path, "a", calibration(), now=NOW)

    assert [one.version for one in list_calibrations(tmp_path)] == list(range(1, 12))


def test_without_an_activation_the_package_s_own_counts(tmp_path):
    save_calibration(tmp_path, "a", calibration(), now=NOW)

    assert active_calibration(tmp_path) is None
    assert active_calibration(tmp_path / "nothing") is None
    assert list_calibrations(tmp_path / "nothing") == []


def test_activations_are_taken_back_one_after_the_other(tmp_path):
    first = save_calibration(tmp_path, "a", calibration(1), now=NOW)
    second = save_calibration(tmp_path, "a", calibration(2), now=NOW)

    assert activate(tmp_path, "a", 1, now=NOW) == first
    assert activate(tmp_path, "a", now=NOW) == second
    assert active_calibration(tmp_path) == second
    assert revert(tmp_path) == first
    assert active_calibration(tmp_path) == first
    assert revert(tmp_path) is None
    assert active_calibration(tmp_path) is None
    with pytest.raises(UnsupportedOperationError, match="no calibration was activated"):
        revert(tmp_path)


def test_nothing_can_be_taken_back_in_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UnsupportedOperationError, match="no calibration was activated"):
        revert(tmp_path / "nothing")


def test_many_who_activate_at_once_are_all_remembered(tmp_path):
    save_calibration(tmp_path, "a", calibration(), now=NOW)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: activate(tmp_path, "a", now=NOW), range(12)))

    for _ in range(11):
        assert revert(tmp_path) is not None
    assert revert(tmp_path) is None


def test_the_history_does_not_grow_for_ever(tmp_path):
    save_calibration(tmp_path, "a", calibration(), now=NOW)
    for _ in range(MAX_HISTORY + 5):
        activate(tmp_path, "a", now=NOW)

    taken_back = 1
    while revert(tmp_path) is not None:
        taken_back += 1
    assert taken_back == MAX_HISTORY


@pytest.mark.parametrize(("name", "version"), [("b", None), ("a", 2), ("a", 0)])
def test_what_was_never_saved_cannot_be_activated(tmp_path, name, version):
    save_calibration(tmp_path, "a", calibration(), now=NOW)

    with pytest.raises(UnsupportedOperationError, match="no such calibration"):
        activate(tmp_path, name, version, now=NOW)

    assert active_calibration(tmp_path) is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 64, "a\n"])
def test_names_that_could_be_anything_else_are_refused(tmp_path, name):
    with pytest.raises(InvalidRowsError, match="cannot have this name"):
        save_calibration(tmp_path, name, calibration(), now=NOW)

    assert list(tmp_path.iterdir()) == []


def test_no_half_written_file_is_left_and_none_is_seen(tmp_path):
    save_calibration(tmp_path, "a", calibration(), now=NOW)
    # of a process that died between its two files, and of one that died in the middle of one
    (tmp_path / "a" / "2.npz").write_bytes(b"PK")
    (tmp_path / "a" / ".half.new").write_bytes(b"{")

    assert labels(list_calibrations(tmp_path)) == ["a/1"]
    assert save_calibration(tmp_path, "a", calibration(), now=NOW).version == 3
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        ".half.new",
        "1.json",
        "1.npz",
        "2.npz",
        "3.json",
        "3.npz",
    ]


def test_a_calibration_that_was_changed_is_refused(tmp_path):
    made = save_calibration(tmp_path, "a", calibration(1), now=NOW)
    (tmp_path / "a" / "1.npz").write_bytes(calibration(2).to_bytes())

    with pytest.raises(PackageError, match="a/1 was changed"):
        load_calibration(tmp_path, made)


def test_a_calibration_that_is_gone_is_missed(tmp_path):
    made = save_calibration(tmp_path, "a", calibration(), now=NOW)
    (tmp_path / "a" / "1.npz").unlink()

    with pytest.raises(PackageError, match="a/1 is missing"):
        load_calibration(tmp_path, made)


def test_descriptions_that_lie_are_refused(tmp_path):
    save_calibration(tmp_path, "a", calibration(), now=NOW)
    description = tmp_path / "a" / "1.json"
    description.rename(tmp_path / "a" / "2.json")
    with pytest.raises(PackageError, match="wrong place"):
        list_calibrations(tmp_path)

    (tmp_path / "a" / "2.json").write_text("{}")
    with pytest.raises(PackageError, match="cannot be read"):
        list_calibrations(tmp_path)


def test_a_history_that_cannot_be_read_is_told_and_not_forgotten(tmp_path):
    save_calibration(tmp_path, "a", calibration(), now=NOW)
    (tmp_path / ACTIVE_FILE).write_text('{"activations": 3}')

    with pytest.raises(PackageError, match="cannot be read"):
        active_calibration(tmp_path)
    with pytest.raises(PackageError, match="cannot be read"):
        activate(tmp_path, "a", now=NOW)
