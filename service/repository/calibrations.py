"""Calibrations beside those of the packages: named, numbered, and which of them counts.

A package is never written to after it was made. What is calibrated later goes to a state folder,
one for each version of a model:

    NAME/1.npz  NAME/1.json     the first calibration of that name, and what is in it
    NAME/2.npz  NAME/2.json     the second; a number is never used again or changed
    active.json                 which ones were activated, the last one counts

Without ``active.json``, or when all activations were taken back, the package's own counts. Every
file comes into being whole or not at all, so a process that dies leaves nothing half done; a set
is there when its ``.json`` is. Several processes may use a folder at a time.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import InvalidRowsError, PackageError, UnsupportedOperationError
from service.repository.manifest import MODEL_NAME_PATTERN
from service.repository.packages import Location
from service.scoring.calibration import Calibration, read_calibration

ACTIVE_FILE: Final = "active.json"
MAX_HISTORY: Final = 100  # activations that can be taken back


class CalibrationSet(BaseModel):
    """What is known of one stored calibration without reading it.

    Attributes:
        name: Given by whoever made it.
        version: Numbered from 1 within the name.
        description: What its rows are, in words.
        created: When.
        rows: Calibration rows behind its default measure.
        measures: What it can score by.
        default_measure: What it scores by when nothing is asked for.
        model_sha256: Fingerprint of the model that it belongs to.
        data_sha256: Fingerprint of its rows, or empty.
        sha256: Of its file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    description: str = ""
    created: datetime
    rows: int
    measures: tuple[str, ...]
    default_measure: str
    model_sha256: str
    data_sha256: str
    sha256: str


class _Activation(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    at: datetime


class _History(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    activations: tuple[_Activation, ...] = ()


def calibrations_of(state: Path, location: Location) -> Path:
    """Give the folder of a model's version within a state folder."""
    return state / "calibrations" / location.name / str(location.version)


def save_calibration(
    folder: Path, name: str, calibration: Calibration, *, now: datetime, description: str = ""
) -> CalibrationSet:
    """Store a calibration under the next free number of *name*; it does not count yet.

    Args:
        folder: That of the model's version.
        name: What it is called.
        calibration: What is stored.
        now: When.
        description: What its rows are, in words.

    Raises:
        InvalidRowsError: *name* is not one that a calibration can have.
    """
    _check_name(name)
    (folder / name).mkdir(parents=True, exist_ok=True)
    data = calibration.to_bytes()
    version = _write_numbered(folder / name, data)
    made = CalibrationSet(
        name=name,
        version=version,
        description=description,
        created=now,
        rows=calibration.rows,
        measures=tuple(calibration.measures),
        default_measure=calibration.default_measure,
        model_sha256=calibration.model_sha256,
        data_sha256=calibration.data_sha256,
        sha256=sha256(data).hexdigest(),
    )
    _replace(folder / name / f"{version}.json", made.model_dump_json(indent=2).encode())
    return made


def list_calibrations(folder: Path) -> list[CalibrationSet]:
    """List what is stored, by name, then by number; an empty list where there is no folder.

    Raises:
        PackageError: A description cannot be read.
    """
    found = (
        _describe(path)
        for path in folder.glob("*/*.json")
        if re.fullmatch(MODEL_NAME_PATTERN, path.parent.name)
    )
    return sorted(found, key=lambda one: (one.name, one.version))


def find_calibration(folder: Path, name: str, version: int | None = None) -> CalibrationSet:
    """Look one up; without *version* the newest of its name.

    Raises:
        UnsupportedOperationError: There is none.
    """
    found = [one for one in list_calibrations(folder) if one.name == name]
    if version is not None:
        found = [one for one in found if one.version == version]
    if not found:
        raise UnsupportedOperationError("the model has no such calibration")
    return found[-1]


def load_calibration(folder: Path, chosen: CalibrationSet) -> Calibration:
    """Read a stored calibration.

    Raises:
        PackageError: Its file is missing, damaged, or not the one that was described.
    """
    try:
        data = (folder / chosen.name / f"{chosen.version}.npz").read_bytes()
    except OSError as error:
        raise PackageError(f"calibration {chosen.name}/{chosen.version} is missing") from error
    if sha256(data).hexdigest() != chosen.sha256:
        raise PackageError(f"calibration {chosen.name}/{chosen.version} was changed")
    return read_calibration(data)


def active_calibration(folder: Path) -> CalibrationSet | None:
    """Give the calibration that counts; ``None`` for the package's own.

    Raises:
        PackageError: The folder does not hold what it says.
    """
    activations = _history(folder).activations
    if not activations:
        return None
    return find_calibration(folder, activations[-1].name, activations[-1].version)


def activate(
    folder: Path, name: str, version: int | None = None, *, now: datetime
) -> CalibrationSet:
    """Let a stored calibration count from now on; without *version* the newest of its name.

    Raises:
        UnsupportedOperationError: There is none.
    """
    chosen = find_calibration(folder, name, version)
    with _locked(folder):
        before = _history(folder).activations[-(MAX_HISTORY - 1) :]
        entry = _Activation(name=chosen.name, version=chosen.version, at=now)
        _write_history(folder, (*before, entry))
    return chosen


def revert(folder: Path) -> CalibrationSet | None:
    """Take the last activation back.

    Returns:
        What counts now, see *active_calibration*.

    Raises:
        UnsupportedOperationError: Nothing was activated.
    """
    if not folder.is_dir():
        raise UnsupportedOperationError("no calibration was activated")
    with _locked(folder):
        activations = _history(folder).activations
        if not activations:
            raise UnsupportedOperationError("no calibration was activated")
        _write_history(folder, activations[:-1])
    return active_calibration(folder)


def _check_name(name: str) -> None:
    if not re.fullmatch(MODEL_NAME_PATTERN, name):
        raise InvalidRowsError(
            "a calibration cannot have this name",
            expected=MODEL_NAME_PATTERN,
        )


def _describe(path: Path) -> CalibrationSet:
    try:
        found = CalibrationSet.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise PackageError("the description of a calibration cannot be read") from error
    if (found.name, str(found.version)) != (path.parent.name, path.stem):
        raise PackageError("the description of a calibration lies in a wrong place")
    return found


def _history(folder: Path) -> _History:
    try:
        return _History.model_validate_json((folder / ACTIVE_FILE).read_bytes())
    except FileNotFoundError:
        return _History()
    except (OSError, ValidationError) as error:
        raise PackageError(f"{ACTIVE_FILE} of the calibrations cannot be read") from error


def _write_history(folder: Path, activations: tuple[_Activation, ...]) -> None:
    history = _History(activations=activations)
    _replace(folder / ACTIVE_FILE, history.model_dump_json(indent=2).encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the history between its reading and its writing."""
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_numbered(folder: Path, data: bytes) -> int:
    """Write *data* as the next ``<number>.npz``, whatever others write at the same time."""
    made = _temporary(folder, data)
    try:
        taken = [int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()]
        for number in count(max(taken, default=0) + 1):
            try:
                os.link(made, folder / f"{number}.npz")  # unlike a renaming, it replaces nothing
            except FileExistsError:
                continue
            return number
    finally:
        made.unlink()
    raise AssertionError("numbers do not end")


def _replace(path: Path, data: bytes) -> None:
    _temporary(path.parent, data).replace(path)


def _temporary(folder: Path, data: bytes) -> Path:
    """Write a file that is on the disk before anything points to it."""
    with NamedTemporaryFile(dir=folder, prefix=".", suffix=".new", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return Path(file.name)
