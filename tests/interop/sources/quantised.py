"""Integers in place of floats, by onnxruntime.quantization; the source is ONNX Runtime itself."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.interop.case import Case, folder_of, rows_like
from tests.interop.sources import recipe_torch, torch_networks as networks

ROWS = rows_like(networks.FEATURES)
HALVES = ("encoder", "decoder")


class Calibration(CalibrationDataReader):
    """Hands rows to the quantiser, which measures the values of each tensor with them."""

    def __init__(self, name: str, rows: Any) -> None:
        self._rows: Iterator[Any] = iter(rows)
        self._name = name

    def get_next(self) -> dict[str, Any] | None:
        row = next(self._rows, None)
        return None if row is None else {self._name: row[None]}


def main(folder: Path) -> None:
    dynamic(folder, "int8-dynamic")
    static(folder, "int8-qdq")


def dynamic(folder: Path, name: str) -> None:
    """Write graphs that find the scale of each tensor while they run, from the whole batch."""
    place = folder_of(name, folder)
    for half, file in _floats(place).items():
        quantize_dynamic(file, place / f"{half}.onnx", weight_type=QuantType.QInt8)
    _write(place, name, "quantize_dynamic", says=["one row"])


def static(folder: Path, name: str) -> None:
    """Write graphs with scales that were measured beforehand."""
    place = folder_of(name, folder)
    given = {"encoder": ROWS}
    for half, file in _floats(place).items():
        quantize_static(
            file,
            place / f"{half}.onnx",
            Calibration(_session(file).get_inputs()[0].name, given[half]),
            quant_format=QuantFormat.QDQ,
        )
        given["decoder"] = _run(file, given[half])
    _write(place, name, "quantize_static, QDQ")


def _floats(place: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    network = networks.dense().eval()
    files = {half: place / f"{half}.float.onnx" for half in HALVES}
    rows = torch.from_numpy(ROWS)
    code = network.encoder(rows).detach()
    recipe_torch.export(network.encoder, rows, files["encoder"], source="input", target="code")
    recipe_torch.export(
        network.decoder, code, files["decoder"], source="code", target="reconstruction"
    )
    return files


def _write(place: Path, name: str, how: str, says: list[str] | None = None) -> None:
    code = _run(place / "encoder.onnx", ROWS)
    decoded = _run(place / "decoder.onnx", code)
    Case(
        name,
        f"onnxruntime {onnxruntime.__version__}, {how}",
        ["--encoder", "encoder.onnx", "--decoder", "decoder.onnx", "--range", "0,1"],
        answers={"rows": ROWS, "code": code, "decoded": decoded, "reconstruction": decoded},
        says=says or [],
    ).write(place)


def _run(file: Path, rows: Any) -> Any:
    """Give the answers to rows that come one at a time."""
    session = _session(file)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: row[None]})[0] for row in rows])


def _session(file: Path) -> Any:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
