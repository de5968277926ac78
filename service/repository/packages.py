"""Reading model packages: find them, read every file once, believe only the checksums."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from service.errors import ConfigurationError, PackageError
from service.repository.manifest import MODEL_NAME_PATTERN, FileRecord, Manifest
from service.repository.seal import check_seal

MANIFEST_FILE = "model.json"
MANIFEST_MAX_BYTES = 1 << 20

_VERSION_PATTERN = r"[1-9][0-9]{0,8}"
# where pydantic would name a class, or show a pattern
_IN_OUR_WORDS = {
    "model_type": "Input should be an object",
    "dataclass_type": "Input should be an object",
    "string_pattern_mismatch": "has characters that it may not have, or too many",
}
_NEW_MANIFEST = ".model.json.new"
_KEY_MAX = 64


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """Where a version lies: ``<models>/<name>/<version>/``."""

    name: str
    version: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class Package:
    """A version's manifest and its files, read once and checked."""

    manifest: Manifest
    files: Mapping[str, bytes]

    @property
    def model_sha256(self) -> str:
        """Fingerprint of the graphs, which a calibration belongs to."""
        return fingerprint([self.files[name] for name in self.manifest.graphs.names])


def fingerprint(graphs: list[bytes]) -> str:
    """Give one sha-256 for the files of a model, in the order encoder, decoder or autoencoder."""
    return sha256("".join(sha256(graph).hexdigest() for graph in graphs).encode()).hexdigest()


def scan(models: Path) -> list[Location]:
    """List every version in the repository, newest last; other folders are passed over.

    A version that is a link is listed, and *read_package* refuses it.

    Raises:
        ConfigurationError: *models* is not a folder.
    """
    if not models.is_dir():
        raise ConfigurationError(f"the model repository {models} is not a folder")
    return sorted(
        Location(name=model.name, version=int(version.name), folder=Path(version.path))
        for model in _named(models, MODEL_NAME_PATTERN)
        if not model.is_symlink() and model.is_dir()
        for version in _named(Path(model.path), _VERSION_PATTERN)
        if version.is_symlink() or version.is_dir()
    )


def find_location(models: Path, name: str) -> Location:
    """Find ``name/version``, or the newest version of ``name``.

    Raises:
        ConfigurationError: It is not in the repository.
    """
    wanted, _, version = name.partition("/")
    found = [location for location in scan(models) if location.name == wanted]
    if version:
        found = [location for location in found if str(location.version) == version]
    if not found:
        raise ConfigurationError(f"there is no model {name} in {models}")
    return found[-1]


def linked_models(models: Path) -> list[str]:
    """Name what would be a model if it were not a link; nobody looks where it leads."""
    return sorted(found.name for found in _named(models, MODEL_NAME_PATTERN) if found.is_symlink())


def read_package(location: Location, *, is_sealed: bool = True) -> Package:
    """Read and verify one package.

    Args:
        location: Where it lies.
        is_sealed: Whether the manifest must be what its seal says.

    Raises:
        PackageError: Something is missing, damaged, a link, or not what the manifest says.
    """
    with _opened(location.folder) as folder:
        manifest = _read_manifest(folder, location, is_sealed=is_sealed)
        files = {
            name: _read_verified(folder, name, record) for name, record in manifest.files.items()
        }
    return Package(manifest, files)


def read_manifest(location: Location) -> Manifest:
    """Read ``model.json`` and see that it belongs to this folder.

    Raises:
        PackageError: It is missing, not valid, or describes another model.
    """
    with _opened(location.folder) as folder:
        return _read_manifest(folder, location, is_sealed=True)


def read_manifest_text(location: Location) -> bytes:
    """Read ``model.json`` and believe nothing of it.

    Raises:
        PackageError: It is missing, a link or too large.
    """
    with _opened(location.folder) as folder:
        return _read_file(folder, MANIFEST_FILE, max_bytes=MANIFEST_MAX_BYTES)


def write_manifest(location: Location, text: str, *, instead_of: bytes) -> None:
    """Put another ``model.json`` in place of one, in a single step.

    Raises:
        PackageError: It is not *instead_of* any more.
    """
    with _opened(location.folder) as folder:
        with suppress(FileNotFoundError):  # of an attempt that did not come to its end
            os.unlink(_NEW_MANIFEST, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = stat.S_IMODE(os.stat(MANIFEST_FILE, dir_fd=folder, follow_symlinks=False).st_mode)
        with os.fdopen(os.open(_NEW_MANIFEST, flags, mode, dir_fd=folder), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if _read_file(folder, MANIFEST_FILE, max_bytes=MANIFEST_MAX_BYTES) != instead_of:
            os.unlink(_NEW_MANIFEST, dir_fd=folder)
            raise PackageError(f"{MANIFEST_FILE} was changed while it was checked")
        os.replace(_NEW_MANIFEST, MANIFEST_FILE, src_dir_fd=folder, dst_dir_fd=folder)


def _named(folder: Path, pattern: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if re.fullmatch(pattern, entry.name))


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a version's folder; neither it nor its model's may be a link, which could lead anywhere.

    What is above belongs to the operator, who may mount the repository through a link.
    """
    model = _open(str(folder.parent), os.O_DIRECTORY)
    try:
        version = _open(folder.name, os.O_DIRECTORY, within=model)
    finally:
        os.close(model)
    try:
        yield version
    finally:
        os.close(version)


def _read_manifest(folder: int, location: Location, *, is_sealed: bool) -> Manifest:
    data = _read_file(folder, MANIFEST_FILE, max_bytes=MANIFEST_MAX_BYTES)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise PackageError(f"{MANIFEST_FILE} is not valid: {_first_fault(error)}") from error
    if (manifest.name, manifest.version) != (location.name, location.version):
        described = f"{manifest.name}/{manifest.version}"
        raise PackageError(f"{MANIFEST_FILE} describes {described}, the folder is {location}")
    if is_sealed:
        check_seal(data, manifest.seal, str(location))
    return manifest


def _read_verified(folder: int, name: str, record: FileRecord) -> bytes:
    data = _read_file(folder, name, max_bytes=record.bytes)
    if len(data) != record.bytes:
        raise PackageError(f"{name} has {len(data)} bytes instead of {record.bytes}")
    if sha256(data).hexdigest() != record.sha256:
        raise PackageError(f"{name} does not have the sha-256 of the manifest")
    return data


def _read_file(folder: int, name: str, *, max_bytes: int) -> bytes:
    """Read a regular file; a hard link is one, and its bytes have to be right like any other's."""
    descriptor = _open(name, os.O_NONBLOCK, within=folder)  # a named pipe would hold the server
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise PackageError(f"{name} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_size > max_bytes:
            raise PackageError(f"{name} is larger than {max_bytes} bytes")
        # no more than the size just seen: a manifest may claim any number of bytes
        return file.read(facts.st_size)


def _open(name: str, flags: int, *, within: int | None = None) -> int:
    try:
        return os.open(name, flags | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    except OSError as error:
        subject = "the folder" if flags & os.O_DIRECTORY else name
        if isinstance(error, FileNotFoundError):
            raise PackageError(f"{subject} is missing") from error
        # the codes for links are not the same everywhere, nor for files and folders
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=within, follow_symlinks=False).st_mode)
        fault = "is a link" if is_link else "cannot be opened"
        raise PackageError(f"{subject} {fault}") from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(_shown(part) for part in fault["loc"] if part != "[key]") or "the file"
    what = _IN_OUR_WORDS.get(fault["type"], fault["msg"])
    return f"{where}: {what.removeprefix('Value error, ')}"


def _shown(part: int | str) -> str:
    """Give a key of the file, which is a stranger's, in a form that no log line minds."""
    text = str(part)
    return text if len(text) <= _KEY_MAX and text.isprintable() else f"{text[:_KEY_MAX]!a}..."
