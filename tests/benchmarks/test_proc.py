"""Reading /proc."""

import os
import threading
import time
from pathlib import Path

import pytest

from benchmarks import proc

TAIL = "S 1 2 3 4 5 6 7 8 9 10 150 50 70 80 20 0 3 0"


def fake(root: Path, pid: int, *, children: str = "", ticks: str = TAIL) -> None:
    task = root / str(pid) / "task" / str(pid)
    task.mkdir(parents=True)
    (task / "children").write_text(children)
    (root / str(pid) / "stat").write_text(f"{pid} (a name) {ticks}")
    (root / str(pid) / "status").write_text("Name:\tx\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n")


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields():
    assert proc.parse_ticks(f"42 (uvicorn: (worker) 1) {TAIL}") == 200


def test_cpu_time_is_that_of_the_whole_family(tmp_path):
    fake(tmp_path, 1, children="2 3 ")
    fake(tmp_path, 2)
    fake(tmp_path, 3, children="4")
    fake(tmp_path, 4)

    assert proc.family(1, tmp_path) == [1, 2, 3, 4]
    assert proc.cpu_s(1, tmp_path) == 4 * 200 / proc.TICKS_PER_S


def test_a_child_that_has_just_ended_counts_nothing(tmp_path):
    fake(tmp_path, 1, children="2")

    assert proc.cpu_s(1, tmp_path) == 200 / proc.TICKS_PER_S


@pytest.mark.parametrize(("field", "mib"), [("VmRSS", 2), ("VmHWM", 4)])
def test_memory_is_given_in_mib(tmp_path, field, mib):
    fake(tmp_path, 1)

    assert proc.memory_mib(1, field, tmp_path) == mib


def test_idle_and_waiting_for_disks_are_not_busy():
    assert proc.parse_busy("cpu  1 2 4 1000 2000 8 16 32 64 128") == 1 + 2 + 4 + 8 + 16 + 32


def test_the_real_proc_can_be_read():
    end = time.process_time() + 0.03
    while time.process_time() < end:
        pass

    assert proc.cpu_s(os.getpid()) > 0
    assert proc.memory_mib(os.getpid(), "VmRSS") > 1
    assert proc.busy_s() > 0


def test_cores_are_given_back():
    before = os.sched_getaffinity(0)
    one = {min(before)}

    with proc.on_cores(one):
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == before


def test_every_thread_is_pinned():
    before = os.sched_getaffinity(0)
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, args=(10,))
    thread.start()
    try:
        proc.pin(os.getpid(), {min(before)})
        found = os.sched_getaffinity(thread.native_id or 0)
    finally:
        proc.pin(os.getpid(), before)
        leave.set()
        thread.join(10)

    assert found == {min(before)}
