"""The npz archives in a package, read so that a small file cannot ask for much memory."""

import io
import zipfile
from math import prod
from typing import Any, Final, TypeAlias

import numpy.typing as npt
from numpy.lib import format as npy_format

from service.errors import PackageError

Array: TypeAlias = npt.NDArray[Any]

# deflate shrinks a thousandfold at most, and black pictures get there honestly: so small archives
# may grow to a size that any server has, and larger ones no more than numbers ever do
ALWAYS_BYTES: Final = 256 << 20
EXPANSION: Final = 4

# a zip also knows LZMA, whose decoder takes the memory that the file asks for at once
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_SUFFIX: Final = ".npy"


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
    stream = io.BytesIO(archive.read(member))
    version = npy_format.read_magic(stream)
    read = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)
    if prod(shape) * dtype.itemsize != member.file_size - stream.tell():
        raise ValueError("a header that does not fit its data")
    stream.seek(0)
    array: Array = npy_format.read_array(stream, allow_pickle=False)
    return array
