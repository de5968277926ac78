"""From what the user typed to readers and writers: by the ends of names, and what is a folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.assembly import LiveModel
from service.errors import ConfigurationError
from service.inference import operations
from service.offline.chunks import Reader, Writer
from service.offline.columns import ColumnChoice
from service.offline.csv import CsvReader, CsvWriter
from service.offline.npy import NpyReader, NpyWriter
from service.offline.parquet import ParquetReader, ParquetWriter
from service.offline.part_file import PartFile
from service.offline.pictures import HeatMapWriter, PictureReader, PictureWriter
from service.offline.tables import Content, Layout, ScoreColumns, Values, shortest, value_names
from service.scoring.verdicts import Rule
from service.specs import TensorSpec

STANDARD: Final = "-"
SCORES_FILE: Final = "scores.csv"

TABLES: Final = (".csv", ".npy", ".parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputChoice:
    """How a file is read.

    Attributes:
        columns: Which columns of a table make a row.
        resize: Bring pictures to the model's size.
        max_pixels: Of one picture.
    """

    columns: ColumnChoice
    resize: bool
    max_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChoice:
    """What is written, and where to.

    Attributes:
        path: A file, a folder for pictures, or *STANDARD* for csv on the standard output.
        operation: What the answers are.
        layer: The layer that *encode* gives instead of the code.
        rule: What makes a score an anomaly.
        has_names: Whether rows are files of their own.
        heat_maps: Draw the error of every feature.
        skips: Whether rows may be left out.
    """

    path: str
    operation: str
    layer: str | None = None
    rule: Rule | None = None
    has_names: bool = False
    heat_maps: bool = False
    skips: bool = False


@contextmanager
def open_reader(path: str, spec: TensorSpec, choice: InputChoice) -> Iterator[Reader]:
    """Open a file or folder for reading.

    Raises:
        ConfigurationError: It is not there, of no known kind, or not for this model.
        RequestError: It is not what its name says.
    """
    if path == STANDARD:
        yield CsvReader(sys.stdin.buffer, spec, choice.columns)
        return
    place = Path(path)
    if choice.resize and not place.is_dir():
        raise ConfigurationError("--resize is for a folder of pictures")
    if not place.exists():
        raise ConfigurationError(f"there is no file or folder {path}")
    if place.is_dir():
        yield PictureReader(place, spec, max_pixels=choice.max_pixels, resize=choice.resize)
        return
    match place.suffix.lower():
        case ".csv":
            with place.open("rb") as file:
                yield CsvReader(file, spec, choice.columns)
        case ".npy":
            yield NpyReader(place, spec)
        case ".parquet":
            yield ParquetReader(place, spec, choice.columns)
        case _:
            raise ConfigurationError(
                f"{path} is neither a folder of pictures nor a file of {', '.join(TABLES)}"
            )


def open_writer(live: LiveModel, choice: OutputChoice) -> Writer:
    """Open a file or folder for the answers.

    Raises:
        ConfigurationError: It is of no known kind, cannot be made, or cannot hold the answers.
    """
    try:
        return _opened(live, choice)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise ConfigurationError(f"{choice.path} cannot be written: {reason}") from error


def check_apart(source: str, target: str) -> None:
    """See that the answers do not replace what they are made from.

    Raises:
        ConfigurationError: They would.
    """
    paths = [Path(path) for path in (source, target) if path != STANDARD]
    if len(paths) > 1 and all(path.exists() for path in paths) and paths[0].samefile(paths[1]):
        raise ConfigurationError("--out is the input itself")


def is_folder(path: str) -> bool:
    """Whether answers become a folder: it is one, or its name has no end."""
    return path != STANDARD and (Path(path).is_dir() or not Path(path).suffix)


def _opened(live: LiveModel, choice: OutputChoice) -> Writer:
    if is_folder(choice.path):
        return _open_folder(live, choice)
    if choice.heat_maps:
        raise ConfigurationError("--heat-maps needs a folder as --out")
    path = Path(choice.path)
    if choice.path == STANDARD:
        return CsvWriter(sys.stdout.buffer, _layout(live, choice))
    match path.suffix.lower():
        case ".csv":
            return _open_csv(path, _layout(live, choice))
        case ".npy":
            return _open_npy(path, live, choice)
        case ".parquet":
            return ParquetWriter(path, _layout(live, choice), _facts(live, choice))
    raise ConfigurationError(f"{choice.path} is neither a folder nor a file of {', '.join(TABLES)}")


def _open_csv(path: Path, layout: Layout) -> Writer:
    part = PartFile(path)
    return CsvWriter(part.file, layout, part)


def _open_npy(path: Path, live: LiveModel, choice: OutputChoice) -> Writer:
    spec = _output_spec(live, choice)
    row = spec.item_shape if spec.is_fixed else None
    return NpyWriter(path, spec.numpy_dtype, row, fills=choice.skips)


def _open_folder(live: LiveModel, choice: OutputChoice) -> Writer:
    folder = Path(choice.path)
    manifest = live.manifest
    is_score = choice.operation == operations.ANOMALY_SCORE
    spec = manifest.input if is_score else _output_spec(live, choice)
    if spec.image is None:
        raise ConfigurationError("the answers are no pictures: --out must be a file")
    if is_score and (not choice.heat_maps or live.calibration is None):
        raise ConfigurationError(
            "a folder of scores needs --heat-maps"
            if live.calibration is not None
            else "heat maps need a calibration, which fixes their scale"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigurationError(f"the folder {choice.path} is not empty")
    if live.calibration is None or not is_score:
        return PictureWriter(folder, spec)
    scores = _open_csv(folder / SCORES_FILE, _layout(live, choice))
    return HeatMapWriter(folder, spec, live.calibration.heat_map_high, scores)


def _layout(live: LiveModel, choice: OutputChoice) -> Layout:
    if choice.operation != operations.ANOMALY_SCORE:
        content = _values(live, choice)
        return Layout(content, has_numbers=False, has_names=choice.has_names)
    if choice.rule is None:
        raise AssertionError("scores have a rule")
    return Layout(
        ScoreColumns(choice.rule, live.calibration), has_numbers=True, has_names=choice.has_names
    )


def _values(live: LiveModel, choice: OutputChoice) -> Content:
    spec = _output_spec(live, choice)
    if choice.operation == operations.ENCODE:
        return Values(value_names(spec, "c"), spec.numpy_dtype)
    features = live.manifest.input.features
    if spec.features is None and features is not None and spec.shape == (len(features),):
        return Values(list(features), spec.numpy_dtype)
    return Values(value_names(spec, "x"), spec.numpy_dtype)


def _output_spec(live: LiveModel, choice: OutputChoice) -> TensorSpec:
    """Say what a row of the answers looks like; a score is a single number."""
    manifest = live.manifest
    if choice.operation == operations.ANOMALY_SCORE:
        return TensorSpec("float32", ())
    if choice.layer is not None:
        return manifest.layers[choice.layer].spec
    spec = manifest.code if choice.operation == operations.ENCODE else manifest.output
    return spec or manifest.input


def _facts(live: LiveModel, choice: OutputChoice) -> dict[str, str]:
    facts = {"model": live.name, "version": live.version, "operation": choice.operation}
    if choice.rule is not None:
        facts["metric"] = choice.rule.measure
        if choice.rule.threshold is not None:
            facts["threshold"] = repr(shortest(choice.rule.threshold))
        if choice.rule.false_positive_rate is not None:
            facts["false_positive_rate"] = repr(choice.rule.false_positive_rate)
    return facts
