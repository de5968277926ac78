"""The commands that documents show, run as they stand, and what is shown below them."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.e2e.server import ROOT

# what every document calls the server
SHOWN_URL: Final = "http://127.0.0.1:8000"
WITHIN_S: Final = 60.0

_BLOCK: Final = re.compile(r"^```(console|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PROMPT: Final = "$ "

_BEGINNINGS: Final = {".png": b"\x89PNG", ".npy": b"\x93NUMPY"}


@dataclass(frozen=True)
class Session:
    """A command, and what its document shows as its answer: maybe nothing."""

    command: str
    shown: str

    @property
    def files(self) -> list[str]:
        """What ``-o`` names."""
        return re.findall(r" -o (\S+)", self.command)


def sessions(document: str) -> list[Session]:
    """Find every command with curl in it.

    In a console a prompt stands before a command, and its answer may follow; a script has neither.
    """
    found = []
    for kind, block in _BLOCK.findall(document):
        prompt = _PROMPT if kind == "console" else ""
        lines = block.splitlines()
        while lines:
            command = _take_command(lines, prompt)
            shown = "\n".join(_take_answer(lines)) if prompt else ""
            found.append(Session(command, shown.strip()))
    return [session for session in found if re.search(r"\bcurl ", session.command)]


def python(document: str) -> list[str]:
    """Find the blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```", document, re.DOTALL | re.MULTILINE)


def _take_command(lines: list[str], prompt: str) -> str:
    """Take a command off the front, with the lines on which it goes on."""
    command = lines.pop(0).removeprefix(prompt)
    while lines and _goes_on(command):
        command += "\n" + lines.pop(0)
    return command


def _goes_on(command: str) -> bool:
    """Whether it ends in a backslash or within quotes."""
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def _take_answer(lines: list[str]) -> Iterator[str]:
    while lines and not lines[0].startswith(_PROMPT):
        yield lines.pop(0)


def check(session: Session, url: str, folder: Path) -> None:
    """Run a command against the server at *url*; what it writes goes into *folder*.

    Raises:
        AssertionError: The command failed, or its answer is not what the document shows. Where
            none is shown, every answer but an error will do.
    """
    command = session.command.replace(SHOWN_URL, url)
    for name in session.files:
        command = command.replace(f" -o {name}", f" -o {folder / name}")
    done = _run(command, folder, errors_fail=not session.shown)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stdout} {done.stderr}"
    if session.shown:
        assert _agrees(done.stdout.strip(), session.shown), done.stdout
    for name in session.files:
        beginning = _BEGINNINGS.get(Path(name).suffix, b"")
        assert (folder / name).read_bytes().startswith(beginning), name


def _run(command: str, folder: Path, *, errors_fail: bool) -> subprocess.CompletedProcess[str]:
    # curl reads it before its command line, which stays as it is shown
    (folder / ".curlrc").write_text("fail-with-body\n" if errors_fail else "", encoding="utf-8")
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command],
        env=os.environ | {"CURL_HOME": str(folder)},
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        timeout=WITHIN_S,
    )


def _agrees(answer: str, shown: str) -> bool:
    if "..." in shown:
        parts = [re.escape(part.strip()) for part in shown.split("...")]
        return re.fullmatch(r"\s*.*".join(parts), answer, re.DOTALL) is not None
    if shown.startswith(("{", "[")):
        return same(json.loads(answer), json.loads(shown))
    return answer == shown


def same(got: Any, shown: Any) -> bool:
    """Equal but for the last digits, which differ between processors."""
    if isinstance(shown, dict):
        return got.keys() == shown.keys() and all(same(got[key], shown[key]) for key in shown)
    if isinstance(shown, list):
        return len(got) == len(shown) and all(map(same, got, shown))
    if isinstance(shown, float):
        return bool(np.isclose(got, shown, rtol=1e-3, atol=1e-5))
    return bool(got == shown)
