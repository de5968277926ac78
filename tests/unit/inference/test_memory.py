import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from service.inference.memory import give_back_memory

MIB = 2**20

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="only glibc can be asked for it",
)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def test_what_was_freed_between_things_in_use_is_given_back():
    # small enough for the heap; those that stay keep it from shrinking on its own
    blocks = [bytes([1]) * 50_000 for _ in range(2_000)]
    in_use = blocks[::100]
    full = resident_bytes()
    blocks.clear()
    kept_by_itself = resident_bytes()

    give_back_memory()

    assert full - kept_by_itself < 20 * MIB
    assert full - resident_bytes() > 80 * MIB
    assert len(in_use) == 20
