"""Autoencoders made of scikit-learn's MLPRegressor, exported by skl2onnx."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import skl2onnx
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tests.interop.case import Case, folder_of, rows_like
from tests.interop.sources import recipe_sklearn

FEATURES = 12
HIDDEN = (8, 3, 8)
# of the hidden layers, the first being 1
CODE_LAYER = 2


def main(folder: Path) -> None:
    # a few rounds of training are enough: the weights need to be no good, only not random
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = rows_like(FEATURES, count=300)
    write(folder, "sklearn-mlp", FunctionTransformer(), rows, range_="0,1")
    # columns of very different sizes, as tables have them
    write(folder, "sklearn-pipeline", StandardScaler(), rows * np.geomspace(0.1, 20, FEATURES))
    write_as_it_comes(folder, "sklearn-as-it-comes", rows)


def write(folder: Path, name: str, scaler: Any, rows: Any, range_: str | None = None) -> None:
    """Fit a regressor to give back what it gets, behind *scaler*, and export both."""
    rows = rows.astype(np.float32)
    network = _network()
    model = make_pipeline(scaler, network).fit(rows, rows)
    place = folder_of(name, folder)
    exported = recipe_sklearn.export(model, rows, place / "autoencoder.onnx")
    code_tensor, output = recipe_sklearn.tensors(exported, CODE_LAYER)
    used = rows[:64]
    code, decoded = _forward(network, scaler.transform(used))
    Case(
        name,
        f"scikit-learn {sklearn.__version__}, skl2onnx {skl2onnx.__version__}",
        [
            *("autoencoder.onnx", "--code", code_tensor, "--output", output),
            *(["--range", range_] if range_ else []),
        ],
        answers={
            "rows": used,
            "code": code,
            "decoded": decoded,
            "reconstruction": model.predict(used),
        },
    ).write(place)


def write_as_it_comes(folder: Path, name: str, rows: Any) -> None:
    """Export the same without saying which tensor is the output."""
    place = folder_of(name, folder)
    recipe_sklearn.export(_network().fit(rows, rows), rows, place / "autoencoder.onnx")
    Case(
        name,
        f"skl2onnx {skl2onnx.__version__}",
        ["autoencoder.onnx", "--no-code", "--range", "0,1"],
        answers={"rows": rows[:64]},
        says=["its first axis is not the batch", "--output add_result3"],
        is_refused=True,
    ).write(place)


def _network() -> MLPRegressor:
    return MLPRegressor(hidden_layer_sizes=HIDDEN, activation="tanh", max_iter=60, random_state=0)


def _forward(network: MLPRegressor, rows: Any) -> tuple[Any, Any]:
    """Give the values of the code's layer and of the last one, as ``predict`` computes them."""
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    hidden = rows
    code = None
    for number, (weights, bias) in enumerate(layers[:-1], start=1):
        hidden = np.tanh(hidden @ weights + bias)
        if number == CODE_LAYER:
            code = hidden
    weights, bias = layers[-1]
    return code, hidden @ weights + bias


if __name__ == "__main__":
    main(Path(sys.argv[1]))
