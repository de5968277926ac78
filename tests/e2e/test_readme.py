"""The commands of the README, run as they stand against the bundled models."""

import json
import re
import subprocess

import numpy as np
import pytest

from tests.e2e.server import ROOT, process

README = (ROOT / "README.md").read_text(encoding="utf-8")


def sessions():
    """Each ``$ curl`` of the README with what it shows below."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    pattern = re.compile(r"^\$ (curl (?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
    found = [session for block in blocks for session in pattern.findall(block)]
    return [
        pytest.param(command, shown.strip(), id=f"{number}-{command.split('/')[-1]}")
        for number, (command, shown) in enumerate(found)
    ]


@pytest.fixture(scope="module")
def server():
    with process("--device", "cpu", models=ROOT / "models") as server:
        yield server


def same(got, shown):
    """Equal but for the last digits, which differ between processors."""
    if isinstance(shown, dict):
        return got.keys() == shown.keys() and all(same(got[key], shown[key]) for key in shown)
    if isinstance(shown, list):
        return len(got) == len(shown) and all(map(same, got, shown))
    if isinstance(shown, float):
        return bool(np.isclose(got, shown, rtol=1e-3, atol=1e-5))
    return bool(got == shown)


@pytest.mark.parametrize(("command", "shown"), sessions())
def test_a_curl_line_of_the_readme_gives_what_the_readme_shows(server, tmp_path, command, shown):
    there = command.replace("http://127.0.0.1:8000", server.url)
    for name in re.findall(r"-o (\S+)", there):
        there = there.replace(f"-o {name}", f"-o {tmp_path / name}")

    done = subprocess.run(
        ["/bin/bash", "-c", there], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )

    if shown.startswith("{"):
        assert same(json.loads(done.stdout), json.loads(shown)), done.stdout
    else:
        assert done.stdout.strip() == shown
    for name in re.findall(r"-o (\S+)", command):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_something_to_run():
    assert len(sessions()) >= 3


LINKS = re.findall(r"\]\(([^)#:]+)|src=\"([^\"]+)", README)


@pytest.mark.parametrize("link", sorted({link or picture for link, picture in LINKS}))
def test_every_file_that_the_readme_links_exists(link):
    assert (ROOT / link).exists()
