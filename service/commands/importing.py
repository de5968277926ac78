"""``hourglass import``: a model package from ONNX files that another program wrote."""

import argparse
from collections.abc import Callable
from pathlib import Path
from re import fullmatch
from typing import Final

import numpy as np

from service.commands.console import (
    Commands,
    Options,
    add_command,
    add_settings,
    read_settings,
    say,
)
from service.errors import ConfigurationError
from service.importing.packing import import_model
from service.importing.report import report
from service.importing.wishes import Wishes
from service.inference.scaling import Constant
from service.logs import configure_logging
from service.repository.manifest import LAYER_NAME_PATTERN, MODEL_NAME_PATTERN
from service.specs import Rows

_TEXTS_MAX_BYTES: Final = 1 << 20

# options that are called what they mean
_SAME: Final = (
    *("name", "version", "files", "encoder", "decoder", "title", "description", "licence"),
    *("features", "image", "layout", "code", "code_output", "output", "output_kind", "rows"),
)


def add(commands: Commands) -> None:
    """Give ``hourglass`` this command."""
    text = "Make a model package of ONNX files, and say what the model can do."
    parser = add_command(commands, "import", import_, text)
    _add_files(parser)
    _add_card(parser)
    _add_rows(parser)
    _add_graph(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be made, and write nothing"
    )
    add_settings(parser, ["models"])


def import_(options: Options) -> int:
    """Make a model package of ONNX files, and say what the model can do."""
    settings = read_settings(options)
    configure_logging("text", "error")
    wishes = _wishes(options, settings.models)
    say(report(import_model(wishes, is_dry=options["dry_run"]), wishes))
    return 0


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="an autoencoder, or its encoder and its decoder",
    )
    parser.add_argument("--encoder", type=Path, metavar="FILE", help="the encoder; may be alone")
    parser.add_argument("--decoder", type=Path, metavar="FILE", help="its decoder")


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name", required=True, type=_matching(MODEL_NAME_PATTERN), help="of the model"
    )
    parser.add_argument("--version", type=_version, help="whole number [the next that is free]")
    parser.add_argument("--title", help="one line for the model card")
    parser.add_argument("--description", default="", help="what the model is, for the card")
    parser.add_argument("--licence", help="what may be done with it, for the card")


def _add_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--range", type=_range, metavar="LOW,HIGH", help="lowest and highest value of the input"
    )
    parser.add_argument(
        "--mean",
        type=_constants,
        metavar="A[,B..]|FILE.npy",
        help="taken off the input in the graph: one number, or one for each feature or channel",
    )
    parser.add_argument(
        "--std", type=_constants, metavar="A[,B..]|FILE.npy", help="and what it is divided by then"
    )
    parser.add_argument(
        "--features", type=_texts, metavar="A,B..|FILE.txt", help="names of a table's columns"
    )
    parser.add_argument("--image", choices=("L", "RGB"), help="rows are pictures, grey or coloured")
    parser.add_argument("--layout", choices=("CHW", "HWC", "HW"), help="order of a picture's axes")
    parser.add_argument(
        "--shape",
        type=_shape,
        metavar="N[,N..]",
        help="a row, where the file leaves it open; ? for an axis of any length",
    )
    parser.add_argument(
        "--rows", type=_array, metavar="FILE.npy", help="rows to try it with [random ones]"
    )


def _add_graph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--code", metavar="TENSOR", help="the code inside an autoencoder file")
    parser.add_argument(
        "--no-code", action="store_true", help="it has none: only reconstruct and anomaly-score"
    )
    parser.add_argument(
        "--code-output", metavar="NAME", help="which output of the encoder is the code"
    )
    parser.add_argument("--output", metavar="NAME", help="which output is the reconstruction")
    parser.add_argument(
        "--output-kind",
        default="reconstruction",
        metavar="NAME",
        help="what the output is, if not the input again: colour, say [reconstruction]",
    )
    parser.add_argument(
        "--layer",
        action="append",
        default=[],
        type=_layer,
        metavar="NAME=TENSOR",
        help="an inner tensor that can be asked for by name; may be repeated",
    )


def _wishes(options: Options, models: Path) -> Wishes:
    if options["no_code"] and (options["code"] or options["code_output"]):
        raise ConfigurationError("--no-code, and a code: which?")
    return Wishes(
        **{name: options[name] for name in _SAME},
        models=models,
        value_range=options["range"],
        mean=options["mean"],
        standard_deviation=options["std"],
        row_shape=options["shape"],
        has_no_code=options["no_code"],
        layers=dict(options["layer"]),
    )


def _matching(pattern: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"'{text}' does not match {pattern}")
        return text

    return check


def _version(text: str) -> int:
    if not fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on")
    return int(text)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not numbers with commas") from error


def _range(text: str) -> tuple[float, float]:
    numbers = _numbers(text)
    if len(numbers) != 2:  # noqa: PLR2004 - a lowest and a highest
        raise argparse.ArgumentTypeError(f"'{text}' is not LOW,HIGH")
    return numbers[0], numbers[1]


def _constants(text: str) -> Constant:
    if not text.endswith(".npy"):
        return np.array(_numbers(text), np.float64)
    array = _array(text)
    if array.dtype.kind not in "fiu" or not array.size:
        raise argparse.ArgumentTypeError(f"{text} does not hold numbers")
    return array.astype(np.float64)


def _array(text: str) -> Rows:
    try:
        array = np.load(text, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise argparse.ArgumentTypeError(f"{text} is not an npy file that can be read") from error
    if not isinstance(array, np.ndarray):
        raise argparse.ArgumentTypeError(f"{text} is an archive, not an npy file")
    return array


def _texts(text: str) -> tuple[str, ...]:
    if not text.endswith(".txt"):
        return tuple(part.strip() for part in text.split(","))
    try:
        with Path(text).open(encoding="utf-8") as file:
            lines = file.read(_TEXTS_MAX_BYTES).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{text} is not a text that can be read") from error
    return tuple(line.strip() for line in lines if line.strip())


def _shape(text: str) -> tuple[int | None, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(fullmatch(r"[1-9][0-9]{0,8}|\?", part) for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not lengths with commas")
    return tuple(None if part == "?" else int(part) for part in parts)


def _layer(text: str) -> tuple[str, str]:
    name, _, tensor = text.partition("=")
    if not tensor or not fullmatch(LAYER_NAME_PATTERN, name):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=TENSOR")
    return name, tensor
