"""Serve the bundled models, and let the clients of others talk to the server: ``make interop``."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.server import ROOT, Process, process
from tests.interop import environments, reference

# the longest, perf_analyzer, takes three minutes
WITHIN_S: Final = 600.0
# a status from here on blames the server, not its client
SERVER_FAULT: Final = 500


@dataclass(frozen=True)
class Client:
    """A script of ``clients``, and where it runs.

    Attributes:
        environment: Its list of requirements; the project's own environment without one.
        variant: Which of the script's ways it takes.
    """

    script: str
    environment: str | None
    variant: str = ""


CLIENTS: Final[Mapping[str, Client]] = {
    "triton": Client("triton", "triton", "sync"),
    "triton-asyncio": Client("triton", "triton", "asyncio"),
    "kserve": Client("kserve_sdk", "kserve"),
    "perf_analyzer": Client("perf_analyzer", "perf_analyzer"),
    "generated": Client("generated", "generated"),
    "documents": Client("documents", None),
    "plain": Client("plain", "plain"),
}


def main() -> int:
    names = _parse()
    # before the server starts, so that it has the machine for itself
    pythons = {name: _python(CLIENTS[name]) for name in names}
    with process("--device", "cpu", models=ROOT / "models") as server:
        starting = len(server.lines)
        wanted = environments.CACHE / "wanted.npz"
        environments.CACHE.mkdir(parents=True, exist_ok=True)
        reference.write(server.url, wanted)
        results = {name: _run(name, pythons[name], server, wanted) for name in names}
        results["the server"] = _is_well(server, starting)
    print()
    for name, has_passed in results.items():
        print(f"{name:16}{'passed' if has_passed else 'FAILED'}")
    return 0 if all(results.values()) else 1


def _parse() -> list[str]:
    parser = argparse.ArgumentParser(prog="python -m tests.interop", description=__doc__)
    parser.add_argument(
        "clients", nargs="*", metavar="client", help=f"all, or some of {', '.join(CLIENTS)}"
    )
    names = list(dict.fromkeys(parser.parse_args().clients)) or list(CLIENTS)
    if unknown := [name for name in names if name not in CLIENTS]:
        parser.error(f"there is no client {', '.join(unknown)}")
    return names


def _python(client: Client) -> Path | None:
    if client.environment is None:
        return Path(sys.executable)
    try:
        return environments.python(client.environment)
    except environments.InstallError as error:
        print(error, file=sys.stderr)
        return None


def _run(name: str, python: Path | None, server: Process, wanted: Path) -> bool:
    if python is None:
        return False
    client = CLIENTS[name]
    folder = environments.CACHE / f"{name}-files"
    folder.mkdir(exist_ok=True)
    print(f"\n{name}", flush=True)
    module = f"tests.interop.clients.{client.script}"
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [python, "-m", module, server.url, folder, wanted, client.variant],
            # whatever proxy there is has nothing to do with this server
            env=os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
            cwd=ROOT,
            check=False,
            timeout=WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        print(f"  FAILED  {error}")
        return False
    print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    return done.returncode == 0


def _is_well(server: Process, starting: int) -> bool:
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


if __name__ == "__main__":
    sys.exit(main())
