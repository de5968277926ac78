"""Schemathesis finds nothing: what the OpenAPI document promises holds, and nothing else passes.

All of its checks are on. The document describes every model at once, so it is made exact for the
one that is served: ``tests.api.contract`` fills in what its card says.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.api.contract import specialised
from tests.e2e.server import ROOT, process

WITHIN_S = 580.0

FEW = 3

# by default 413 is missing, and a failure of the server would be a refusal
CONFIGURATION = """
[checks.negative_data_rejection]
expected-statuses = ["4xx"]
"""

GENERATED = re.compile(r"(\d+) generated")


def explore(document: Path, url: str, cases: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis in a process of its own; what it makes up follows from its seed."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url]
    options = ["--checks", "all", "--max-examples", str(cases), "--seed", "1", "--no-color"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"}
    return subprocess.run(
        [*command, *options, "--generation-database", "none", *more],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=document.parent,  # where it finds its configuration and leaves a cache
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", ["picture", "tabular"])
def test_schemathesis_finds_nothing(tmp_path, request, capsys, model):
    cases = request.config.getoption("--cases")
    if cases is None and model != "picture":
        pytest.skip("only with --cases; pictures take every kind of body")
    write = {"picture": tiny.write_picture, "tabular": tiny.write_tabular}[model]
    write(tmp_path / "models")
    with process("--device", "cpu", models=tmp_path / "models") as server:
        with server.client() as client:
            card = client.get(f"/v1/models/{model}").json()
            document = specialised(client.get("/openapi.json").json(), card)
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
        few = ["--exclude-path-regex", "/versions/"] if cases is None else []

        done = explore(tmp_path / "openapi.json", server.url, cases or FEW, *few)

        with server.client() as client:
            assert client.get("/readyz").status_code == 200
    generated = sum(map(int, GENERATED.findall(done.stdout)))
    with capsys.disabled():
        sys.stdout.write(f"\nschemathesis: {generated} cases of the model {model}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert generated >= 300
