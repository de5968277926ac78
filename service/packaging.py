"""Writing a model package: what the recipes and the commands share with the registry."""

import asyncio
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from service.assembly import AUTO_MAX_ROWS, NO_LIMIT, Engine, make_engine, opened
from service.blueprint import is_large, make_graphs, served_graphs, served_run
from service.calibrating import EVERY_MEASURE, Choice, calibrate_model, in_chunks
from service.errors import InferenceError, PackageError
from service.grants import usable_cores
from service.inference import operations
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.inference.invariance import (
    Dependence,
    affordable_batch,
    find_dependences,
    runtime_version,
)
from service.inference.lane import Lanes
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.metrics import Metrics
from service.repository.golden import GoldenRows
from service.repository.manifest import (
    BatchInvariance,
    CalibrationFacts,
    Description,
    FileRecord,
    Golden,
    Manifest,
)
from service.repository.packages import (
    MANIFEST_FILE,
    Location,
    Package,
    read_manifest,
    read_manifest_text,
    read_package,
    write_manifest,
)
from service.repository.seal import sealed
from service.scoring.calibration import Calibration
from service.scoring.measures import mean_squared_error
from service.settings import Settings
from service.specs import Rows

CALIBRATION_FILE: Final = "calibration.npz"
GOLDEN_FILE: Final = "golden.npz"

# what *write_calibration* calls them
_CALIBRATION_NAME: Final = re.compile(r"calibration(-[0-9a-f]{12})?\.npz")

BATCH_ROWS: Final = 64

# half precision rounds to 1e-3, and sums of rounded numbers stray further
HALF_TOLERANCE: Final = 1e-2


def answers(package: Package, rows: Rows) -> dict[str, Rows]:
    """Give every answer that the model has for *rows*, by tensor name, on the CPU.

    Those of further outputs stand under the names that the manifest gives them.

    Raises:
        PackageError: The files are not usable graphs, or fail on the rows.
    """
    graphs = make_graphs(package)
    further = package.manifest.further_outputs
    given: dict[str, Rows] = {}
    everything = graphs.everything
    if everything is not None:
        made = {CODE: graphs.encode, RECONSTRUCTION: graphs.reconstruct, SCORE: graphs.score}
        names = [name for name, data in made.items() if data]
        given = _run(package, everything, names, rows)
    if everything is None or further:
        given = _run(package, graphs.encode, [CODE, *further], rows) | given
    if SCORE in given and graphs.decode is not None and is_large(package):
        # the server runs the graphs of such a model in turn, and scores outside them
        width = package.manifest.input.width
        given[SCORE] = mean_squared_error(rows, given[RECONSTRUCTION], width=width)
    return given


def _run(
    package: Package, graph: bytes | None, names: Sequence[str], rows: Rows
) -> dict[str, Rows]:
    """Run one graph on *rows*, and give its outputs by *names*."""
    run = served_run(OrtSession(graph or b"", Device()), package.manifest)
    starts = range(0, len(rows), BATCH_ROWS)
    try:
        batches = [run(rows[start : start + BATCH_ROWS]) for start in starts]
    except InferenceError as error:
        raise PackageError("the model fails on the rows that it is packed with") from error
    if not batches:
        raise PackageError("a package needs at least one golden row")
    outputs = zip(*batches, strict=True)
    return {name: np.concatenate(parts) for name, parts in zip(names, outputs, strict=True)}


def calibrate_package(package: Package, rows: Rows, choice: Choice = EVERY_MEASURE) -> Calibration:
    """Calibrate a model on clean rows that it was not trained on.

    The model is loaded as the server does it, so the scores are comparable to the bit.

    Args:
        package: The model.
        rows: The rows.
        choice: Which measures.

    Raises:
        PackageError: The model does not reconstruct its input, or fails on the rows.
        UnsupportedOperationError: It cannot have one of the measures.
    """
    # no setting of a server may change what goes into a package
    engine = Engine(
        device=Device(),
        lanes=Lanes(usable_cores()),
        make_session=OrtSession,
        metrics=Metrics(CollectorRegistry()),
        max_queue_rows=NO_LIMIT,
    )
    try:
        with (
            opened(package, engine) as live,
            ThreadPoolExecutor(1) as apart,  # the caller may have a loop of its own
        ):
            study = calibrate_model(
                live.autoencoder, in_chunks(rows), choice, model_sha256=package.model_sha256
            )
            return apart.submit(asyncio.run, study).result()
    except InferenceError as error:
        raise PackageError("the model fails on the rows that calibrate it") from error


def measure_batch_invariance(
    package: Package, golden: GoldenRows, *, budget_s: float = float("inf")
) -> BatchInvariance:
    """Measure on the CPU whether the bits of a row's answers depend on the batch around it.

    Every graph that serves is tried as it serves: in batches of one size, if the manifest asks.

    Args:
        package: What is to be measured.
        golden: Its golden rows, of which others are made.
        budget_s: About how long each graph may take: of a slow one only smaller batches are
            tried, and ``largest_batch`` says so.

    Raises:
        PackageError: A graph fails on rows such as the golden ones.
    """
    manifest = package.manifest
    largest = manifest.max_batch_rows or AUTO_MAX_ROWS
    tried = largest
    found: dict[str, list[Dependence]] = {}
    for operation, graph in served_graphs(package, make_graphs(package)).items():
        sample = golden.answers[CODE] if operation == operations.DECODE else golden.rows
        session = OrtSession(graph, Device())
        try:
            run = served_run(session, manifest)
            size = affordable_batch(run, sample, largest=largest, budget_s=budget_s)
            found[operation] = find_dependences(run, sample, largest=size)
            tried = min(tried, size)
        except InferenceError as error:
            raise PackageError(f"'{operation}' fails on rows such as the golden ones") from error
        finally:
            session.close()
    return BatchInvariance(
        invariant=not any(found.values()),
        largest_batch=tried,
        depends_on=found,
        provider=Device().provider,
        onnxruntime=runtime_version(),
        machine=platform.machine(),
    )


def check_package(
    location: Location, settings: Settings, device: Device, *, is_sealed: bool = True
) -> list[str]:
    """Load a package as the server does under *settings*, and let go of it again.

    Args:
        location: Where it lies.
        settings: The server's.
        device: Where it is loaded.
        is_sealed: Whether the manifest must be what its seal says.

    Returns:
        The operations that it has.

    Raises:
        PackageError: It cannot be trusted or does not do what its manifest says.
        DeviceUnavailableError: A session came up on another device.
    """
    package = read_package(location, is_sealed=is_sealed)
    with opened(package, make_engine(settings, device, Metrics(CollectorRegistry()))) as live:
        return live.autoencoder.operations


def golden_tolerance(manifest: Manifest) -> float:
    """How far answers may be from the stored ones on another machine."""
    specs = (manifest.input, manifest.code, manifest.output)
    is_half = any(spec is not None and spec.dtype == "float16" for spec in specs)
    return HALF_TOLERANCE if is_half else Golden.model_fields["tolerance"].default


def make_package(description: Description, files: Mapping[str, bytes]) -> Package:
    """Put a package together in memory, with nothing measured of it."""
    records = {name: _record(data) for name, data in files.items()}
    return Package(Manifest(**dict(description), files=records), files)


def write_package(
    models: Path,
    description: Description,
    files: Mapping[str, bytes],
    *,
    golden_rows: Rows,
    calibration_rows: Rows | None = None,
    calibration_data: str = "",
    calibration_choice: Choice = EVERY_MEASURE,
    measure_invariance: bool = True,
    measured: BatchInvariance | None = None,
) -> Location:
    """Write ``<models>/<name>/<version>/`` and read it back as the server would.

    A version that is there already is replaced whole, after the new one has been read back.

    Args:
        models: The repository.
        description: The manifest without what is found out here.
        files: The graph files by the names that *description* gives them.
        golden_rows: A few rows of the input, stored with the model's own answers.
        calibration_rows: Clean rows that the model was not trained on.
        calibration_data: What those rows are, in words.
        calibration_choice: Which measures it is calibrated for.
        measure_invariance: Find out whether answers depend on the batch around a row, which runs
            every graph some 400 times, with 10,000 rows.
        measured: What *measure_batch_invariance* found of these files and this description; it is
            not measured again then.

    Raises:
        PackageError: The files are not usable graphs, or do not fit the description.
    """
    bare = make_package(description, files)
    written = dict(files)
    golden = GoldenRows(golden_rows, answers(bare, golden_rows))
    written[GOLDEN_FILE] = golden.to_bytes()
    facts = None
    if calibration_rows is not None:
        calibration = calibrate_package(bare, calibration_rows, calibration_choice)
        written[CALIBRATION_FILE] = calibration.to_bytes()
        facts = CalibrationFacts(
            file=CALIBRATION_FILE,
            data=calibration_data,
            rows=len(calibration_rows),
            data_sha256=calibration.data_sha256,
        )
    manifest = Manifest(
        **dict(description),
        files={name: _record(data) for name, data in written.items()},
        golden=Golden(file=GOLDEN_FILE, tolerance=golden_tolerance(bare.manifest)),
        calibration=facts,
        batch_invariance=measured or (_invariance(bare, golden) if measure_invariance else None),
    )
    folder = models / description.name / str(description.version)
    location = Location(description.name, description.version, folder)
    made = folder.with_name(f".{folder.name}.new")
    _write(made, manifest, written)
    read_package(Location(description.name, description.version, made))
    if folder.exists():
        shutil.rmtree(folder)
    made.rename(folder)
    return location


def write_calibration(location: Location, calibration: Calibration, facts: CalibrationFacts) -> str:
    """Give a package that lies in a repository a calibration, in place of the one that it has.

    Args:
        location: The package.
        calibration: Of its graphs.
        facts: What the manifest says of it; the name of the file is chosen here.

    Returns:
        The name of the file.

    Raises:
        PackageError: The package cannot be trusted, or does not have these graphs.
    """
    package = read_package(location)
    if calibration.model_sha256 != package.model_sha256:
        raise PackageError("the calibration belongs to another model")
    data = calibration.to_bytes()
    manifest = package.manifest
    old = None if manifest.calibration is None else manifest.calibration.file
    is_new = old is None or package.files[old] != data
    name = _free_name(data, set(manifest.files)) if is_new or old is None else old
    records = {file: record for file, record in manifest.files.items() if file != old}
    renewed = manifest.model_copy(
        update={
            "files": {**records, name: _record(data)},
            "calibration": facts.model_copy(update={"file": name}),
        }
    )
    rewrite_package(location, renewed, {name: data} if is_new else {})
    _remove_old_calibrations(location.folder, {name, old})
    return name


def rewrite_package(location: Location, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Write the manifest of a package anew, and files that the package does not have yet.

    Whoever reads meanwhile sees the old package or the new one: the files that the old manifest
    names stay as they are, and the new manifest takes its name when everything else is there.

    Raises:
        PackageError: A file has a name that the package uses already, the result is not whole, or
            somebody else wrote the manifest meanwhile.
    """
    before = read_manifest_text(location)
    text = _manifest_text(manifest)
    try:
        Manifest.model_validate_json(text)
    except ValidationError as error:
        raise PackageError("the manifest would not be valid") from error
    used = set(read_manifest(location).files)
    for name, data in files.items():
        if name in used:
            raise PackageError(f"{name} is a file of the package already")
        _replace(location.folder / name, data)
    for name in manifest.files:
        if not (location.folder / name).is_file():
            raise PackageError(f"{name} is missing")
    write_manifest(location, text, instead_of=before)
    read_package(location)


def _free_name(data: bytes, used: set[str]) -> str:
    """Name a calibration: plainly, or by its content where the plain name is taken."""
    if CALIBRATION_FILE not in used:
        return CALIBRATION_FILE
    return f"calibration-{sha256(data).hexdigest()[:12]}.npz"


def _remove_old_calibrations(folder: Path, kept: set[str | None]) -> None:
    """Remove those before the last one, which somebody may be reading just now."""
    for found in folder.iterdir():
        if _CALIBRATION_NAME.fullmatch(found.name) and found.name not in kept:
            found.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    """Put a file where it belongs, whole and lasting."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _invariance(package: Package, golden: GoldenRows) -> BatchInvariance:
    """Measure it, and refuse a promise that the model cannot keep."""
    measured = measure_batch_invariance(package, golden)
    if package.manifest.invariant and not measured.invariant:
        reasons = sorted({reason for found in measured.depends_on.values() for reason in found})
        raise PackageError(
            f"'invariant' does not hold: answers depend on {' and '.join(reasons)} in batches of"
            " one size too; with a max_batch_rows of 1 they cannot"
        )
    return measured


def _record(data: bytes) -> FileRecord:
    return FileRecord(sha256=sha256(data).hexdigest(), bytes=len(data))


def _write(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that did not come to its end
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST_FILE).write_text(_manifest_text(manifest), encoding="utf-8")


def _manifest_text(manifest: Manifest) -> str:
    return sealed(manifest.model_dump(mode="json", exclude_none=True))
