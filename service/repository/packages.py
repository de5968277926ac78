"""Reading model packages: find them, read every file once, believe only the checksums."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from service.errors import ConfigurationError, PackageError
from service.repository.manifest import MODEL_NAME_PATTERN, Manifest

MANIFEST_FILE = "model.json"
MANIFEST_MAX_BYTES = 1 << 20


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

    Raises:
        ConfigurationError: *models* is not a folder.
    """
    if not models.is_dir():
        raise ConfigurationError(f"the model repository {models} is not a folder")
    found = (
        Location(name=version.parent.name, version=int(version.name), folder=version)
        for version in models.glob("*/*/")
        if re.fullmatch(MODEL_NAME_PATTERN, version.parent.name)
        and re.fullmatch(r"[1-9][0-9]{0,8}", version.name)
    )
    return sorted(found)


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


def read_package(location: Location) -> Package:
    """Read and verify one package.

    Raises:
        PackageError: Something is missing, damaged, a link, or not what the manifest says.
    """
    manifest = read_manifest(location)
    files = {name: _read_verified(location.folder / name, manifest) for name in manifest.files}
    return Package(manifest, files)


def read_manifest(location: Location) -> Manifest:
    """Read ``model.json`` and see that it belongs to this folder.

    Raises:
        PackageError: It is missing, not valid, or describes another model.
    """
    data = _read_file(location.folder / MANIFEST_FILE, max_bytes=MANIFEST_MAX_BYTES)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise PackageError(f"{MANIFEST_FILE} is not valid: {_first_fault(error)}") from error
    if (manifest.name, manifest.version) != (location.name, location.version):
        described = f"{manifest.name}/{manifest.version}"
        raise PackageError(f"{MANIFEST_FILE} describes {described}, the folder is {location}")
    return manifest


def _read_verified(path: Path, manifest: Manifest) -> bytes:
    record = manifest.files[path.name]
    data = _read_file(path, max_bytes=record.bytes)
    if len(data) != record.bytes:
        raise PackageError(f"{path.name} has {len(data)} bytes instead of {record.bytes}")
    if sha256(data).hexdigest() != record.sha256:
        raise PackageError(f"{path.name} does not have the sha-256 of the manifest")
    return data


def _read_file(path: Path, *, max_bytes: int) -> bytes:
    try:
        # a link could lead anywhere, and O_NONBLOCK keeps a named pipe from holding the server
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be opened"
        raise PackageError(f"{path.name} {reason}") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise PackageError(f"{path.name} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if facts.st_size > max_bytes:
            raise PackageError(f"{path.name} is larger than {max_bytes} bytes")
        # no more than the size just seen: a manifest may claim any number of bytes
        return file.read(facts.st_size)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the file"
    return f"{where}: {fault['msg']}"
