"""Let the clients of others talk to the server, with the bundled models."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.server import ROOT, Process, process
from tests.interop import environments, health, reference
from tests.interop.checks import MODEL

# the longest, perf_analyzer, takes three minutes
WITHIN_S: Final = 600.0


@dataclass(frozen=True)
class Client:
    """A script of ``clients``, and where it runs.

    Attributes:
        environment: Its list of requirements; the project's own environment without one.
        variant: Which of the script's ways it takes.
        needs_all: Whether it asks for all bundled models, as the documents do.
    """

    script: str
    environment: str | None
    variant: str = ""
    needs_all: bool = False


CLIENTS: Final[Mapping[str, Client]] = {
    "triton": Client("triton", "triton", "sync"),
    "triton-asyncio": Client("triton", "triton", "asyncio"),
    "kserve": Client("kserve_sdk", "kserve"),
    "perf_analyzer": Client("perf_analyzer", "perf_analyzer"),
    "generated": Client("generated", "generated"),
    "documents": Client("documents", None, needs_all=True),
    "plain": Client("plain", "plain"),
}


def run(names: Sequence[str]) -> dict[str, bool]:
    """Tell of each client, and of the servers, whether all went well."""
    # before a server starts, so that it has the machine for itself
    pythons = {name: _python(CLIENTS[name]) for name in names}
    environments.CACHE.mkdir(parents=True, exist_ok=True)
    results: dict[str, bool] = {}
    for models, title in ((_one_model(), "the server"), (ROOT / "models", "all models")):
        served = [name for name in names if CLIENTS[name].needs_all == (models == ROOT / "models")]
        if served:
            results |= _serve(models, {name: pythons[name] for name in served}, title)
    return results


def _one_model() -> Path:
    """Lay the model that the clients know, in its first version, into a repository of its own."""
    folder = environments.CACHE / "models"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(reference.FOLDER, folder / MODEL / reference.FOLDER.name)
    return folder


def _serve(models: Path, pythons: Mapping[str, Path | None], title: str) -> dict[str, bool]:
    with process("--device", "cpu", models=models) as server:
        starting = len(server.lines)
        wanted = environments.CACHE / "wanted.npz"
        reference.write(server.url, wanted)
        results = {name: _run(name, python, server, wanted) for name, python in pythons.items()}
        results[title] = health.is_well(server, starting)
    return results


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
