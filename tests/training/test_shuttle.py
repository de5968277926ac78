import io
from hashlib import sha256

import numpy as np
import pytest

from training.data import shuttle
from training.data.download import DataError


def archive(rows=6):
    file = io.BytesIO()
    values = np.arange(9 * rows, dtype=np.int16).reshape(rows, 9)
    np.savez(file, X=values, y=np.arange(rows) == rows - 1)
    return file.getvalue()


CHECKSUMS = {shuttle.FILE: sha256(archive()).hexdigest()}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / shuttle.FILE).write_bytes(archive())
    return folder


def load(folder, source="file:///nowhere/"):
    return shuttle.load(folder, source=source, checksums=CHECKSUMS)


def test_a_folder_with_the_file_is_read_without_the_source(source):
    rows, anomalies = load(source)

    assert (rows.shape, rows.dtype) == ((6, len(shuttle.FEATURES)), np.float32)
    assert anomalies.tolist() == [False] * 5 + [True]


def test_a_missing_file_is_downloaded_and_kept(source, tmp_path):
    folder = tmp_path / "data" / "adbench"

    first, _ = load(folder, f"{source.as_uri()}/")

    again, _ = load(folder)
    np.testing.assert_array_equal(again, first)


def test_a_file_with_other_bytes_is_refused_by_its_checksum(source):
    (source / shuttle.FILE).write_bytes(archive(rows=7))

    with pytest.raises(DataError, match=f"{shuttle.FILE} has the sha-256"):
        load(source)


def test_a_download_with_other_bytes_leaves_nothing_behind(source, tmp_path):
    (source / shuttle.FILE).write_bytes(b"something else")

    with pytest.raises(DataError, match="sha-256"):
        load(tmp_path / "data", f"{source.as_uri()}/")

    assert not (tmp_path / "data").exists()


def test_a_source_that_lacks_the_file_is_named_as_the_reason(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded"):
        load(tmp_path / "data", f"{tmp_path.as_uri()}/")
