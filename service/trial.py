"""The child process of a check: it loads packages one by one, and may die of any of them.

It reads one line of JSON for each package and writes one; see ``service.checking``.
"""

import json
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TextIO

from service.errors import HourglassError
from service.packaging import check_package
from service.placement import server_device
from service.repository.packages import Location
from service.settings import Settings

_STATUS: Final = Path("/proc/self/status")


def main() -> None:
    """Answer whoever started this process, until it hangs up."""
    answers = _take_over_output()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected here, its image not
    orders = _orders()
    order = next(orders)
    settings = Settings(**order["settings"])
    try:
        device = server_device(settings)
    except HourglassError as error:
        _tell(answers, {"fault": str(error)})
        return
    _tell(answers, {})
    for asked in orders:
        location = Location(asked["name"], asked["version"], Path(asked["folder"]))
        _allow_memory(order["memory_mib"])
        try:
            found = check_package(location, settings, device, is_sealed=order["is_sealed"])
        except Exception as error:  # noqa: BLE001 - the server leaves out what fails in any way
            _tell(answers, {"reason": _reason(error)})
        else:
            _tell(answers, {"operations": found})


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is no memory for it"
    return str(error) if isinstance(error, HourglassError) else "it cannot be loaded"


def _take_over_output() -> TextIO:
    """Keep standard output for answers alone: libraries print there too."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _tell(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _orders() -> Iterator[Any]:
    """Give what is asked for; the process ends when its parent does, in the midst of a run too."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


def _allow_memory(mebibytes: int) -> None:
    """Let this process take so much more than it has; without a ``/proc`` there is no limit.

    RLIMIT_DATA counts private pages that may be written. After the imports and one session
    these were 119 MiB of 220 MiB of addresses (ONNX Runtime 1.31 on Linux, 89 MiB resident), and
    a limit 20 to 300 MiB above them ended runs within 13 MiB of it, as errors that can be
    told. RLIMIT_AS did the same here, but it also counts what is only reserved: 64 MiB for each
    thread's heap, and all of a GPU's memory. RLIMIT_RSS does nothing on Linux.
    """
    if not _STATUS.exists():
        return
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    used_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (used_kib << 10) + (mebibytes << 20)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


if __name__ == "__main__":
    main()
