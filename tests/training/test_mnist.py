import gzip
from hashlib import md5

import numpy as np
import pytest

from training.data import mnist
from training.data.download import DataError


def idx(values: np.ndarray) -> bytes:
    lengths = np.array(values.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + lengths + values.tobytes()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for name, values in tiny_files().items():
        (folder / name).write_bytes(gzip.compress(idx(values)))
    return folder


def tiny_files():
    random = np.random.default_rng(0)
    files = {}
    for rows, part in [(6, "train"), (3, "test")]:
        files[mnist.IMAGES[part]] = random.integers(256, size=(rows, 28, 28), dtype=np.uint8)
        files[mnist.LABELS[part]] = random.integers(10, size=rows, dtype=np.uint8)
    return files


def load(folder, source="file:///nowhere/"):
    checksums = {
        name: md5(idx(values), usedforsecurity=False).hexdigest()
        for name, values in tiny_files().items()
    }
    return mnist.load(folder, source=source, checksums=checksums)


def test_an_idx_file_gives_its_values_in_its_shape():
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)

    np.testing.assert_array_equal(mnist.read_idx(idx(values)), values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x08",
        b"\x00\x00\x0d\x01" + bytes(4),
        idx(np.zeros((2, 3), dtype=np.uint8))[:-1],
        idx(np.zeros((2, 3), dtype=np.uint8)) + b"\x00",
        b"\x00\x00\x08\xff" + bytes(100),
    ],
    ids=["empty", "no axes", "floats", "too short", "too long", "header cut off"],
)
def test_bytes_that_are_no_whole_idx_file_are_refused(data):
    with pytest.raises(DataError):
        mnist.read_idx(data)


def test_a_folder_with_all_files_is_read_without_the_source(source):
    parts = load(source)

    assert parts["train"].images.shape == (6, 28, 28)
    np.testing.assert_array_equal(parts["test"].labels, tiny_files()[mnist.LABELS["test"]])


def test_missing_files_are_downloaded_and_kept(source, tmp_path):
    folder = tmp_path / "data" / "mnist"

    first = load(folder, f"{source.as_uri()}/")

    again = load(folder)
    np.testing.assert_array_equal(again["train"].images, first["train"].images)


def test_a_file_with_other_bytes_is_refused_by_its_checksum(source):
    name = mnist.IMAGES["test"]
    (source / name).write_bytes(gzip.compress(idx(np.zeros((3, 28, 28), dtype=np.uint8))))

    with pytest.raises(DataError, match=f"{name} holds bytes with md5"):
        load(source)


def test_a_download_with_other_bytes_leaves_nothing_behind(source, tmp_path):
    (source / mnist.IMAGES["train"]).write_bytes(gzip.compress(b"something else"))

    with pytest.raises(DataError, match="md5"):
        load(tmp_path / "data", f"{source.as_uri()}/")

    assert not (tmp_path / "data").exists()


def test_a_file_cut_short_is_refused(source):
    path = source / mnist.LABELS["train"]
    path.write_bytes(path.read_bytes()[:-6])

    with pytest.raises(DataError, match="not a whole gzip file"):
        load(source)


def test_a_source_that_lacks_the_files_is_named_as_the_reason(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded"):
        load(tmp_path / "data", f"{tmp_path.as_uri()}/")


def test_rows_have_one_channel_and_values_up_to_one():
    images = np.array([[[0, 51], [102, 255]]], dtype=np.uint8)

    rows = mnist.as_rows(images)

    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[[[0, 0.2], [0.4, 1]]]], rtol=1e-7)
