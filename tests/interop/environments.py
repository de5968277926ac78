"""An environment for each list in ``requirements/``, made once."""

import ctypes.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.e2e.server import ROOT

CACHE: Final = ROOT / ".cache" / "interop"
REQUIREMENTS: Final = Path(__file__).parent / "requirements"

# PyTorch's build for NVIDIA, which some machines are given, needs packages that its others do not
PARTLY_LISTED: Final = "torch=="

# perf_analyzer's binary is linked to it, and no wheel has it
B64: Final = "libb64-0d"


class InstallError(Exception):
    """An environment could not be made."""


def python(name: str) -> Path:
    """Give the interpreter of an environment, and make it if it is not there.

    Raises:
        InstallError: It could not be made.
    """
    folder, listed = CACHE / name, (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8")
    interpreter, made_from = folder / "bin" / "python", folder / "made-from.txt"
    if made_from.exists() and made_from.read_text(encoding="utf-8") == listed:
        return interpreter
    print(f"making the environment of {name} in {folder.relative_to(ROOT)}", flush=True)
    _call(sys.executable, "-m", "venv", "--clear", str(folder))
    # the lists are complete, and nothing is to be compiled
    options = ["--only-binary", ":all:"]
    if PARTLY_LISTED not in listed:
        options.append("--no-deps")
    _call(
        *(str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *(*options, "-r", str(REQUIREMENTS / f"{name}.txt")),
    )
    if name == "perf_analyzer":
        _add_b64(folder)
    made_from.write_text(listed, encoding="utf-8")
    return interpreter


def _add_b64(environment: Path) -> None:
    """Unpack Debian's package of the library, unless the machine has it."""
    if ctypes.util.find_library("b64") is not None:
        return
    if shutil.which("apt-get") is None:
        raise InstallError(f"perf_analyzer needs {B64}, and this is no Debian: install it")
    folder = environment / "debian"
    folder.mkdir()
    if not _is_known(B64):
        _call("apt-get", "--quiet", "update")
    _call("apt-get", "--quiet", "download", B64, within=folder)
    for package in folder.glob("*.deb"):
        _call("dpkg-deb", "-x", str(package), str(folder))


def _is_known(package: str) -> bool:
    """Whether there are lists of packages, which a fresh machine does not have."""
    command = ["/usr/bin/apt-cache", "show", package]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _call(*command: str, within: Path = ROOT) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=within, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
