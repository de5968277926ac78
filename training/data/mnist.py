"""MNIST: 60,000 and 10,000 grey digits of 28x28 pixels, in four gzipped IDX files.

LeCun, Cortes and Burges; CC BY-SA 3.0. A file that the folder lacks is downloaded from a
public mirror. What counts is the md5 of the bytes *inside* the gzip wrapping, because mirrors
wrap the same bytes anew. The download can be tried without a network: give *source* as a
``file://`` address of a folder or the address of a local ``python -m http.server``.
"""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import md5
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.download import DataError, download

NAME = "MNIST"
AUTHORS = "Y. LeCun, C. Cortes, C. J. C. Burges"
LICENCE = "CC BY-SA 3.0"
SOURCE = "https://ossci-datasets.s3.amazonaws.com/mnist/"

IMAGES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
LABELS = {"train": "train-labels-idx1-ubyte.gz", "test": "t10k-labels-idx1-ubyte.gz"}

MD5 = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}
IDX_OF_BYTES = b"\x00\x00\x08"  # two zeros, and the format's code of uint8

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Digits:
    """Images and labels in the order of the files, which is by writer, in stretches.

    Attributes:
        images: Shape ``(rows, 28, 28)``, 0 is the paper and 255 the ink.
        labels: Shape ``(rows,)``, 0 to 9.
    """

    images: Pixels
    labels: Pixels


def load(
    folder: Path, *, source: str = SOURCE, checksums: Mapping[str, str] = MD5
) -> dict[str, Digits]:
    """Read ``train`` and ``test``, downloading what *folder* lacks.

    Args:
        folder: Where the files are, or will be.
        source: Address that a file's name is appended to.
        checksums: For each file the md5 of its content.

    Raises:
        DataError: A file cannot be had, or its bytes are not those of MNIST.
    """

    def read(name: str) -> Pixels:
        path = folder / name
        if not path.exists():
            download(source + name, path, lambda packed: _unpacked(packed, name, checksums[name]))
        return read_idx(_unpacked(path.read_bytes(), name, checksums[name]))

    return {part: Digits(read(IMAGES[part]), read(LABELS[part])) for part in IMAGES}


def as_rows(images: Pixels) -> npt.NDArray[np.float32]:
    """Give images as a model takes them: ``(rows, 1, 28, 28)``, values in [0, 1]."""
    return (images[:, np.newaxis] / np.float32(255)).astype(np.float32, copy=False)


def read_idx(data: bytes) -> Pixels:
    """Read unsigned bytes in the IDX format: magic number, lengths of the axes, values.

    Raises:
        DataError: The bytes are something else, or too few or too many.
    """
    if not data.startswith(IDX_OF_BYTES) or len(data) < (start := _end_of_header(data)):
        raise DataError("not an IDX file of unsigned bytes")
    shape = tuple(np.frombuffer(data[len(IDX_OF_BYTES) + 1 : start], dtype=">u4").tolist())
    if len(data) - start != prod(shape):
        raise DataError(f"an IDX file with {len(data) - start} values announces {list(shape)}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def _end_of_header(data: bytes) -> int:
    """The header has four bytes, the last of them the number of axes, and four for each axis."""
    axes = data[len(IDX_OF_BYTES) : len(IDX_OF_BYTES) + 1]
    return 4 + 4 * int.from_bytes(axes)


def _unpacked(packed: bytes, name: str, checksum: str) -> bytes:
    """Unpack a gzipped file and see that its content is the known one."""
    try:
        data = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a whole gzip file") from error
    digest = md5(data, usedforsecurity=False).hexdigest()
    if digest != checksum:
        raise DataError(f"{name} holds bytes with md5 {digest} instead of {checksum}")
    return data
