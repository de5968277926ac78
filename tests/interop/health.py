"""Whether a server came through what was done to it."""

from collections.abc import Mapping
from typing import Any, Final

from tests.e2e.server import Process

# a status from here on blames the server, not its client
SERVER_FAULT: Final = 500


def is_well(server: Process, starting: int) -> bool:
    """Whether the server is still ready, and logged no fault of its own after *starting* lines."""
    print("\nthe server", flush=True)
    with server.client() as client:
        is_ready = client.get("/readyz").status_code == 200
    faults = [line for line in server.lines[starting:] if _is_fault(line)]
    print(f"  {'is' if is_ready else 'is NOT'} ready, and logged {len(faults)} faults of its own")
    for line in faults:
        print(f"  {line}")
    return is_ready and not faults


def _is_fault(line: Mapping[str, Any]) -> bool:
    if line["message"] == "request answered":
        return bool(line["status"] >= SERVER_FAULT)
    return line["level"] not in {"debug", "info"}
