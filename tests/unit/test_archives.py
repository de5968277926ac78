import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from service.archives import read_npz, write_npz
from service.errors import PackageError
from tests.hostile.bad import bomb, claiming, header_of

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def zipped(data, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x.npy", data)
    return buffer.getvalue()


def test_every_array_is_read_as_numpy_wrote_it():
    arrays = {"rows": ROWS, "columns": np.asfortranarray(ROWS), "name": np.array("mse")}

    read = read_npz(npz(**arrays), "it")

    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_arrays_are_compressed_where_that_saves_a_quarter():
    random = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    arrays = {"codes": random, "sparse": np.where(random > 2, random, 0), "count": np.array(3)}

    data = write_npz(arrays)

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        methods = {member.filename: member.compress_type for member in archive.infolist()}
    assert methods["codes.npy"] == zipfile.ZIP_STORED
    assert methods["sparse.npy"] == zipfile.ZIP_DEFLATED
    assert write_npz(arrays) == data
    with np.load(io.BytesIO(data)) as numpy_reads:
        for name, array in arrays.items():
            for read in (read_npz(data, "it")[name], numpy_reads[name]):
                assert (read.dtype, read.shape) == (array.dtype, array.shape)
                np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    "array",
    [np.array(2.5), np.array("mse"), np.zeros((0, 3), np.float32), np.asfortranarray(ROWS), ROWS],
    ids=["number", "text", "nothing", "columns", "rows"],
)
def test_what_was_read_can_be_written_to_and_keeps_its_order(array):
    once, again = (read_npz(npz(x=array), "it")["x"] for _ in range(2))

    np.testing.assert_array_equal(once, array)
    assert once.flags.f_contiguous == array.flags.f_contiguous
    once[...] = np.zeros_like(once)
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        npz(rows=ROWS)[:-30],
        npz(rows=np.array([{}], object)),
        zipped(b""),
        zipped(b"\x93NUMPY\x09\x09"),
        zipped(header_of(2) + b"\0" * 7),
        zipped(header_of(2) + b"\0" * 9),
        zipped(header_of(2) + b"\0" * 8, zipfile.ZIP_LZMA),
        claiming(b""),
    ],
    ids=["empty", "text", "cut", "objects", "no array", "version", "less", "more", "lzma", "claim"],
)
def test_what_is_no_archive_of_plain_arrays_is_refused(data):
    with pytest.raises(PackageError, match=r"^it cannot be read$"):
        read_npz(data, "it")


def test_an_archive_that_would_expand_too_far_costs_no_memory():
    data = bomb()
    tracemalloc.start()
    try:
        with pytest.raises(PackageError, match=r"^it would expand to more than 256 MiB$"):
            read_npz(data, "it")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(data) < 2 << 20
    assert peak < 4 << 20
