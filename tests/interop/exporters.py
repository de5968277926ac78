"""Let frameworks export models, import and serve them, and compare the answers with theirs."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2

from tests.e2e.server import ROOT, Process, process
from tests.interop import comparing, environments, health
from tests.interop.case import Case
from tests.interop.checks import Checks, must
from tests.interop.table import Row

EXPORTED: Final = environments.CACHE / "exported"
IMPORTED: Final = environments.CACHE / "imported"
# PyTorch exports some thirty graphs: a minute of processor time, eight on a machine with much to do
WITHIN_S: Final = 1800.0
READY_WITHIN_S: Final = 300.0


@dataclass(frozen=True)
class Source:
    """A script of ``sources``, and where it runs.

    Attributes:
        variables: Of its process environment, besides ours.
    """

    script: str
    environment: str
    variables: Mapping[str, str] = field(default_factory=dict)


SOURCES: Final[Mapping[str, Source]] = {
    "torch": Source("pytorch", "torch"),
    "quantised": Source("quantised", "torch"),
    "keras": Source("keras_conv", "torch", {"KERAS_BACKEND": "torch"}),
    "keras-jax": Source("keras_conv", "jax", {"KERAS_BACKEND": "jax"}),
    "sklearn": Source("sklearn_mlp", "sklearn"),
    "optimum": Source("optimum_vae", "optimum"),
}


@dataclass
class Outcome:
    """What became of the models of one source."""

    checks: Checks = field(default_factory=Checks)
    cases: list[Case] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def run(names: Sequence[str]) -> dict[str, Outcome]:
    """Export, import, check, serve and compare, each for all sources before the next."""
    shutil.rmtree(IMPORTED, ignore_errors=True)
    IMPORTED.mkdir(parents=True)
    outcomes = {name: _export_and_import(name) for name in names}
    if not any(outcome.cases for outcome in outcomes.values()):
        return outcomes
    with process("--device", "cpu", models=IMPORTED, ready=False) as server:
        _wait(server)
        starting = len(server.lines)
        for name in names:
            _compare(name, outcomes[name], server)
        outcomes["their server"] = _look_back(server, starting)
    return outcomes


def _wait(server: Process) -> None:
    """Wait until all models are loaded, which are more than those that are bundled."""
    deadline = time.monotonic() + READY_WITHIN_S
    with server.client() as client:
        while client.get("/readyz").status_code != httpx2.codes.OK:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready: {server.lines}")
            time.sleep(0.5)


def _look_back(server: Process, starting: int) -> Outcome:
    outcome = Outcome()
    with outcome.checks.check("the server of all imported models is well"):
        must(health.is_well(server, starting), "it is not")
    print("\nhourglass check", flush=True)
    with outcome.checks.check("every imported model is fit to be served"):
        _must_succeed(_hourglass("check", "--models", str(IMPORTED)))
    return outcome


def _export_and_import(name: str) -> Outcome:
    print(f"\n{name}: export and import", flush=True)
    outcome = Outcome()
    with outcome.checks.check("everything is exported"):
        for folder in _export(name):
            case = Case.read(folder)
            how = "refused" if case.is_refused else "imported"
            with outcome.checks.check(f"{case.name} is {how}"):
                _import(case, folder)
                if not case.is_refused:
                    outcome.cases.append(case)
    return outcome


def _export(name: str) -> list[Path]:
    """Run the script of a source in its environment, and give the folders of its cases."""
    source, folder = SOURCES[name], EXPORTED / name
    python = environments.python(source.environment)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begin = time.monotonic()
    _must_succeed(
        subprocess.run(
            [python, "-m", f"tests.interop.sources.{source.script}", folder],
            env={**os.environ, "OMP_NUM_THREADS": "1", **source.variables},
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
    )
    print(f"  exported in {time.monotonic() - begin:.0f} s", flush=True)
    return sorted(path.parent for path in folder.glob("*/case.json"))


def _import(case: Case, folder: Path) -> None:
    """Run ``hourglass import`` as a user would, in the folder with the files."""
    command = ["import", *case.arguments, "--name", case.name, "--models", str(IMPORTED)]
    done = _hourglass(*command, within=folder)
    said = f"{done.stdout}{done.stderr}"
    (folder / "import.txt").write_text(f"$ hourglass {' '.join(command)}\n{said}", encoding="utf-8")
    judge(case, done.returncode, said)


def judge(case: Case, status: int, said: str) -> None:
    """See that an import ended as it must, and told what it must."""
    must((status != 0) == case.is_refused, f"exit status {status}: {said}")
    for words in case.says:
        must(words in said, f"it does not say '{words}': {said}")


def _compare(name: str, outcome: Outcome, server: Process) -> None:
    print(f"\n{name}: served", flush=True)
    with server.client() as client:
        for case in outcome.cases:
            differences: dict[str, float] = {}
            with outcome.checks.check(f"{case.name} answers as its framework does"):
                differences.update(comparing.compare(client, case))
                largest = max(differences.values())
                must(largest <= case.tolerance, f"a difference of {largest:.1e}: {differences}")
            outcome.rows.append(Row(case, differences))
            if "picture" in case.answers:
                with outcome.checks.check(f"{case.name} takes and gives pictures"):
                    print(f"  {comparing.compare_picture(client, case)}")


def _hourglass(*command: str, within: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command of this checkout, which may not be the one that is installed."""
    return subprocess.run(
        [sys.executable, "-m", "service", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=within,
        check=False,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
    )


def _must_succeed(done: subprocess.CompletedProcess[str]) -> None:
    said = f"{done.stdout}{done.stderr}"
    must(done.returncode == 0, f"exit status {done.returncode}: {said[-1500:]}")
