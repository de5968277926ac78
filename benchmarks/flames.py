"""A flame graph of the service under one-row load, by py-spy where it is installed.

Only who holds the interpreter lock is drawn: else the idle thread of the device would be most of
the picture. ONNX Runtime lets go of the lock while it computes, so its time is not in it.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.cases import DENSE, RAW_1, Layout
from benchmarks.load import run_slice
from benchmarks.servers import CONTENDERS, ROOT, running
from benchmarks.workload import Workload

PICTURE: Final = ROOT / "docs" / "pictures" / "flame-one-row.svg"
SECONDS: Final = 10
CONCURRENCY: Final = 32
# odd, so that it does not beat in time with anything periodic
SAMPLES_PER_S: Final = 197


def find_py_spy() -> str:
    """Find the profiler, beside this Python or on the path.

    Raises:
        SystemExit: It is not installed.
    """
    here = Path(sys.executable).with_name("py-spy")
    found = str(here) if here.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("--profile needs py-spy: pip install py-spy")
    return found


def draw_flames(workload: Workload, layout: Layout, picture: Path = PICTURE) -> None:
    """Sample the server while it answers raw rows for the dense model."""
    hourglass = CONTENDERS[0]
    with running(hourglass, workload, DENSE, layout.server) as server:
        options = ["--rate", str(SAMPLES_PER_S), "--duration", str(SECONDS), "--gil"]
        command = [find_py_spy(), "record", "--pid", str(server.pid), *options]
        command += ["--output", str(picture)]
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - py-spy
        try:
            run_slice(
                server.target(DENSE, RAW_1),
                concurrency=CONCURRENCY,
                seconds=SECONDS + 1,
                cores=layout.generator,
            )
        finally:
            if recorder.wait(SECONDS) != 0:
                raise RuntimeError("py-spy failed; it may need the right to trace processes")
    _name(picture)


def _name(picture: Path) -> None:
    """Say what is shown; py-spy writes its own command there, with the paths of this machine."""
    text = picture.read_text(encoding="utf-8")
    title = f"{DENSE}, one raw row, concurrency {CONCURRENCY}: where the interpreter's time goes"
    named = re.sub(r'(<text id="title"[^>]*>)[^<]*', rf"\g<1>{title}", text, count=1)
    picture.write_text(named, encoding="utf-8")
