"""``hourglass models``: what the repository holds."""

from service.commands.console import (
    Commands,
    Options,
    add_command,
    add_settings,
    printable,
    read_settings,
    say,
    say_columns,
)
from service.commands.trials import add_folder
from service.errors import PackageError
from service.inference.operations import ANOMALY_SCORE, DECODE, ENCODE, RECONSTRUCT
from service.repository.manifest import Manifest
from service.repository.packages import linked_models, read_manifest, scan
from service.specs import TensorSpec, shape_text

_HEADINGS = ("MODEL", "INPUT", "CODE", "OPERATIONS", "SIZE", "CALIBRATED", "TITLE")


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "List what the repository holds, by the manifests alone."
    parser = add_command(commands, "models", models, text)
    add_folder(parser)
    add_settings(parser, ["models"])


def models(options: Options) -> int:
    """List what the repository holds, by the manifests alone."""
    folder = read_settings(options).models
    rows: list[tuple[str, ...]] = [_HEADINGS]
    faults = []
    for location in scan(folder):
        try:
            rows.append((str(location), *_columns(read_manifest(location))))
        except PackageError as error:
            faults.append(f"{location}  BAD  {printable(str(error))}")
    faults += [f"{name}  BAD  the folder is a link" for name in linked_models(folder)]
    if len(rows) > 1:
        say_columns(rows)
    for fault in faults:
        say(fault)
    return 0


def _columns(manifest: Manifest) -> tuple[str, ...]:
    size = sum(record.bytes for record in manifest.files.values())
    calibration = manifest.calibration
    return (
        _shape(manifest.input),
        _shape(manifest.code),
        ", ".join(_operations(manifest)),
        f"{size / 1e6:.2f} MB",
        f"{calibration.rows} rows" if calibration else "no",
        printable(manifest.title or ""),
    )


def _shape(spec: TensorSpec | None) -> str:
    return "-" if spec is None else f"{spec.dtype} {shape_text(spec.shape)}"


def _operations(manifest: Manifest) -> list[str]:
    """Name what the manifest promises; connections around the code take ``decode`` away at load."""
    has = {
        ENCODE: manifest.code is not None,
        DECODE: manifest.code is not None and manifest.output is not None,
        RECONSTRUCT: manifest.output is not None,
        ANOMALY_SCORE: manifest.reconstructs,
    }
    return [operation for operation, is_there in has.items() if is_there]
