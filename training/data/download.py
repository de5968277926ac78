"""Fetching one file of a data set; it is stored only when its bytes are the known ones."""

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

DOWNLOAD_MAX_BYTES = 1 << 26  # the largest file has 10 MB; whatever is larger is another one


class DataError(Exception):
    """A data set is missing, damaged or not what it should be."""


def download(address: str, path: Path, check: Callable[[bytes], object]) -> None:
    """Fetch *address* to *path*.

    Args:
        address: Of the file; ``file://`` will do, to try it without a network.
        path: Where it goes, with the folders above it.
        check: Raises ``DataError`` if the bytes are not those that were expected.

    Raises:
        DataError: The file cannot be had, or its bytes are not the known ones.
    """
    print(f"downloading {address}")
    try:
        with urlopen(address, timeout=60) as answer:  # noqa: S310 - file:// is wanted, see above
            data: bytes = answer.read(DOWNLOAD_MAX_BYTES)
    except (URLError, TimeoutError) as error:
        raise DataError(f"{path.name} is not in {path.parent} and cannot be downloaded") from error
    check(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
