"""A file that has its name only when it is whole."""

import os
from pathlib import Path
from typing import BinaryIO


class PartFile:
    """Written under another name in the same folder, and renamed at the end.

    Attributes:
        file: What to write to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self.file: BinaryIO = self._part.open("wb")

    def finish(self) -> None:
        """Give it its name; what had it before is replaced whole."""
        if not self.file.closed:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        self._part.replace(self._path)

    def abandon(self) -> None:
        """Remove what was written."""
        self.file.close()
        self._part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that nobody sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
