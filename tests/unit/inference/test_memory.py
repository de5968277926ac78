import ctypes
import mmap
import subprocess
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


# grows as a body does whose end is not known, in threads that stay, with heaps of their own
PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from service.inference.memory import return_large_blocks
from tests.unit.inference.test_memory import resident_bytes

def grow(_):
    data = bytearray()
    while len(data) < 31 << 20:
        data += bytes(64 << 10)
    together.wait()

return_large_blocks()
together = Barrier(4)
with ThreadPoolExecutor(4) as threads:
    before = resident_bytes()
    for _ in range(3):
        list(threads.map(grow, range(4)))
    print(resident_bytes() - before)
"""


def test_large_blocks_go_back_when_they_are_freed():
    """In a process of its own, for it cannot be undone."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=root
    )

    assert int(done.stdout) < 16 * MIB
