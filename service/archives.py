"""The npz archives in a package, read so that a small file cannot ask for much memory."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from service.errors import PackageError

Array: TypeAlias = npt.NDArray[Any]
_Layout: TypeAlias = tuple[tuple[int, ...], bool, np.dtype[Any]]

# deflate shrinks a thousandfold at most, and black pictures get there honestly: so small archives
# may grow to a size that any server has, and larger ones no more than numbers ever do
ALWAYS_BYTES: Final = 256 << 20
EXPANSION: Final = 4

# a zip also knows LZMA, whose decoder takes the memory that the file asks for at once
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_SUFFIX: Final = ".npy"

# weights and codes hardly shrink, and to expand them again is most of the time that reading takes
_WORTH_IT: Final = 0.75
_LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4}


def write_npz(arrays: Mapping[str, npt.ArrayLike]) -> bytes:
    """Write arrays as ``numpy.savez`` does, those compressed that shrink by a quarter or more."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            npy_format.write_array(content, np.asarray(array), allow_pickle=False)
            data = content.getvalue()
            shrinks = len(zlib.compress(data)) <= _WORTH_IT * len(data)
            # a member with no time of its own: equal arrays make equal files
            archive.writestr(
                zipfile.ZipInfo(name + _SUFFIX),
                data,
                zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED,
            )
    return buffer.getvalue()


def read_npz(data: bytes, subject: str) -> dict[str, Array]:
    """Read every array of an npz archive; nothing is allocated that the archive only claims.

    Args:
        data: The file.
        subject: What it is, as the error's text calls it.

    Raises:
        PackageError: It is damaged, holds objects, or would expand too far.
    """
    allowed = max(ALWAYS_BYTES, EXPANSION * len(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            # a read ends at the size that the member claims, whatever its bytes expand to
            claimed = sum(member.file_size for member in members)
            arrays = {} if claimed > allowed else {_name(m): _array(archive, m) for m in members}
    except Exception as error:  # zipfile, zlib and NumPy raise almost anything at broken bytes
        raise PackageError(f"{subject} cannot be read") from error
    if claimed > allowed:
        raise PackageError(f"{subject} would expand to more than {allowed >> 20} MiB")
    return arrays


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(_SUFFIX)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in _METHODS:
        raise ValueError("a method of compression that NumPy does not write")
    data = archive.read(member)
    start, (shape, is_fortran, dtype) = _header(data)
    if dtype.hasobject or prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError("a header that does not fit its data")
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    return np.ndarray(shape, dtype, buffer=data, offset=start, order=order).copy(order)


def _header(data: bytes) -> tuple[int, _Layout]:
    """Find where the header ends, and what it says."""
    version = npy_format.read_magic(io.BytesIO(data))
    first = npy_format.MAGIC_LEN + _LENGTH_BYTES[version]
    start = first + int.from_bytes(data[npy_format.MAGIC_LEN : first], "little")
    return start, _layout(version, data[npy_format.MAGIC_LEN : start])


@lru_cache(maxsize=1024)
def _layout(version: tuple[int, int], header: bytes) -> _Layout:
    """Parse a header; NumPy takes 0.2 ms for it, and models of one kind have the same ones."""
    read = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    return read(io.BytesIO(header))
