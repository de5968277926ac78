"""A convolutional autoencoder in Keras 3, pictures as height, width, channels.

``KERAS_BACKEND`` says which of its backends exports: ``torch`` (by PyTorch's TorchScript
exporter) or ``jax`` (by jax2onnx).
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from tests.interop.case import Case, folder_of, rows_like
from tests.interop.sources import recipe_keras

PICTURE = (12, 12, 1)
ROWS = rows_like(*PICTURE)


def main(folder: Path) -> None:
    # the tracer warns of every Python number
    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(0)
    encoder, decoder = recipe_keras.networks()
    backend = keras.backend.backend()
    whole = keras.Sequential([encoder, decoder])
    _write(folder, f"keras-{backend}-halves", whole, {"encoder": encoder, "decoder": decoder})
    _write(folder, f"keras-{backend}-whole", whole, {"autoencoder": whole})


def _write(folder: Path, name: str, whole: Any, files: dict[str, Any]) -> None:
    place = folder_of(name, folder)
    encoder, decoder = whole.layers
    code = encoder.predict(ROWS, verbose=0)
    decoded = decoder.predict(code, verbose=0)
    reconstruction = whole.predict(ROWS, verbose=0)
    for file, model in files.items():
        example = code if file == "decoder" else ROWS
        recipe_keras.export(model, example[:1], place / f"{file}.onnx")
    Case(
        name,
        f"keras {keras.__version__}, {keras.backend.backend()} backend",
        [*_files(place, files, code.shape[1]), "--image", "L", "--layout", "HWC", "--range", "0,1"],
        answers={
            "rows": ROWS,
            "code": code,
            "decoded": decoded,
            "reconstruction": np.asarray(reconstruction),
        },
    ).write(place)


def _files(place: Path, files: dict[str, Any], width: int) -> list[str]:
    if len(files) > 1:
        return ["--encoder", "encoder.onnx", "--decoder", "decoder.onnx"]
    return ["autoencoder.onnx", "--code", _code_tensor(place / "autoencoder.onnx", width)]


def _code_tensor(file: Path, width: int) -> str:
    """Name the last inner tensor that has the shape of the code."""
    model = onnx.shape_inference.infer_shapes(onnx.load(file))
    found = [
        value.name
        for value in model.graph.value_info
        if [d.dim_value for d in value.type.tensor_type.shape.dim][1:] == [width]
    ]
    return found[-1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
