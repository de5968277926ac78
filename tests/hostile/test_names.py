"""Whatever a name says, nothing outside the repository is opened; strace looks."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.console import EXIT_USAGE
from tests.e2e.server import ROOT
from tests.hostile.names import NAMES, OUTSIDE, write_repository

STRACE = shutil.which("strace")
WITHIN_S = 300

# calls that open, make, move or remove; others only ask whether something is there
CALL = re.compile(
    r"\b(?:open|openat|openat2|creat|unlink|unlinkat|rename\w*|link|linkat|symlink\w*|mkdir\w*"
    r"|rmdir|truncate|chmod|fchmodat\w*|chown|execve)\((?P<given>.*)\) += (?P<result>.*)"
)
# a string may be preceded by the folder that it is relative to, which -y names in brackets
PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<within>[^>]*)>, )?"(?P<path>(?:[^"\\]|\\.)*)"')
OPENED = re.compile(r"\d+<(?P<path>/[^>]*)>")

# what an interpreter and its libraries open by themselves
SYSTEM = (
    *("/usr/", "/lib", "/proc/", "/sys/", "/dev/", "/run/systemd/"),
    *("/etc/ld.so", "/etc/localtime", "/etc/ssl/", "/etc/mime.types", "/etc/host", "/etc/resolv"),
    *("/etc/nsswitch.conf", "/etc/gai.conf", "/etc/apache2/mime.types", "/etc/httpd"),
    *("/etc/locale.alias", "/etc/os-release"),
)
PYTHON = tuple(
    f"{Path(place).resolve()}/" for place in (sys.prefix, sys.base_prefix, *sys.path[1:]) if place
)


def may_strace():
    if STRACE is None:
        return False
    probe = [STRACE, "-o", os.devnull, "-e", "trace=%file", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def opened_paths(trace, cwd):
    """Every path that some process opened, made or removed, as given and as it was resolved."""
    for line in trace.read_text(errors="replace").splitlines():
        call = CALL.search(line)
        if call is None:
            continue
        for found in PATH.finditer(call["given"].split(", [")[0]):
            within = found["within"] or str(cwd)
            yield os.path.normpath(os.path.join(within, found["path"]))  # noqa: PTH118 - no touch
        resolved = OPENED.match(call["result"])
        if resolved is not None:
            yield resolved["path"]


@pytest.mark.slow
@pytest.mark.skipif(not may_strace(), reason="strace is not installed, or may not trace here")
def test_no_name_opens_anything_outside_the_repository(tmp_path):
    models, cwd, trace = tmp_path / "repository", tmp_path / "cwd", tmp_path / "trace"
    cwd.mkdir()
    write_repository(models)
    seen = [
        STRACE,
        "-f",
        "--seccomp-bpf",
        "-y",
        "-qq",
        "-s",
        "8192",
        "-e",
        "trace=%file",
        "-e",
        "signal=none",
    ]
    command = [*seen, "-o", trace, sys.executable, "-P", "-m", "tests.hostile.names", models]
    clean = {name: value for name, value in os.environ.items() if "HOURGLASS" not in name}
    environment = clean | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, timeout=WITHIN_S, check=True
    )

    told = json.loads(done.stdout)
    assert len(NAMES) >= 200
    assert told["commands"][:2] == [0, 1]
    assert set(told["commands"][2:]) == {EXIT_USAGE}
    assert len(told["answers"]) == 3 * len(NAMES)
    assert set(told["answers"]) <= {400, 404, 405, 409, 414, 431, 503}  # 503: it is not loaded
    assert told["server"] == 0
    opened = set(opened_paths(trace, cwd))
    # it has seen what it should see, and nothing but that
    assert str(models / "good" / "1" / "model.json") in opened
    allowed = (f"{models}/", f"{ROOT}/", *PYTHON, *SYSTEM)
    outside = {path for path in opened if not f"{path}/".startswith(allowed)}
    assert outside == set()
    assert not any(OUTSIDE in path.removeprefix(str(models)) for path in opened - links(models))


def links(models):
    """The links in the repository: to try one, and to be told that it is one, opens nothing."""
    return {str(path) for path in models.rglob("*") if path.is_symlink()}
