import mmap
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

# each run wants 16 MiB and more beside its rows and answers
PROGRAM = """
import numpy as np
from service.inference.arena import shrink_arena
from service.inference.providers import Device
from service.inference.session import OrtSession
from tests import tiny
from tests.unit.inference.test_arena import resident_bytes

graph, rows = tiny.swelling()[0], np.ones((4, 4), np.float32)

def use(sessions):
    for session in sessions:
        session.run(rows)
    return resident_bytes()

shrink_arena()  # nothing is there to be shrunk yet
OrtSession(tiny.keeping(4, 2)[0], Device()).run(rows)
start = resident_bytes()
first = [OrtSession(graph, Device())]
one = use(first)
many = use(first + [OrtSession(graph, Device()) for _ in range(7)])
shrink_arena()
shrunk = resident_bytes()
use(first)  # works on
print(one - start, many - start, shrunk - start)
"""


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def test_eight_sessions_that_run_in_turn_do_not_need_eight_times_the_memory_and_give_it_back():
    """In a process of its own, whose arena nobody has used."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=root
    )

    one, many, shrunk = map(int, done.stdout.split())
    assert one > 16 * MIB
    assert many < 3 * one  # a new region of the arena is as large as all before it
    assert shrunk < 0.25 * one
