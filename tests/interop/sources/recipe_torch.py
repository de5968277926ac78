"""Export the two halves of an autoencoder from PyTorch, and prove that they do the same."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn


def export(module: nn.Module, example: torch.Tensor, file: Path, *, source: str, target: str):
    """Write *module* as one ONNX file that takes any number of rows."""
    torch.onnx.export(
        module.eval(),  # dropout off, batch normalisation with its stored means
        (example,),  # two rows: exporters have taken a batch of one for a constant
        file,
        input_names=[source],
        output_names=[target],
        dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
        opset_version=18,
        dynamo=True,  # said aloud: the default changed with PyTorch 2.9
        external_data=False,  # otherwise the weights lie in a second file
    )
    graph = onnx.load(file).graph
    for tensor in (*graph.input, *graph.output):
        if not tensor.type.tensor_type.shape.dim[0].dim_param:
            raise ValueError(f"{file}: the batch axis of '{tensor.name}' is fixed")


def difference(module: nn.Module, rows: torch.Tensor, file: Path) -> float:
    """Give the largest difference between *module* and its file, relative to max(1, |value|)."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in (1, 2, 7, 64):  # 1 is what graphs most easily get wrong, 7 divides nothing
        with torch.inference_mode():
            expected = module.eval()(rows[:batch]).numpy()
        (given,) = session.run(None, {session.get_inputs()[0].name: rows[:batch].numpy()})
        relative = np.abs(given - expected) / np.maximum(1, np.abs(expected))
        largest = max(largest, float(relative.max()))
    return largest


def main(folder: Path) -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 4))
    decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 30))
    rows = torch.rand(64, 30)
    codes = encoder(rows).detach()
    export(encoder, rows, folder / "encoder.onnx", source="input", target="code")
    export(decoder, codes, folder / "decoder.onnx", source="code", target="reconstruction")
    for half, given, name in ((encoder, rows, "encoder"), (decoder, codes, "decoder")):
        largest = difference(half, given, folder / f"{name}.onnx")
        print(f"{name}.onnx differs by {largest:.1e}")
        if not largest <= 1e-5:
            raise ValueError(f"{name}.onnx is not what was trained")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
