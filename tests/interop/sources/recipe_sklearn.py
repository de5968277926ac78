"""Export an autoencoder made of scikit-learn's MLPRegressor."""

import sys
from pathlib import Path

import numpy as np
import onnx
import skl2onnx
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def export(model: BaseEstimator, rows: np.ndarray, file: Path) -> onnx.ModelProto:
    """Write *model* as one ONNX file; *rows* say how many columns there are and of which type."""
    exported = skl2onnx.to_onnx(model, rows[:1], target_opset=18)
    onnx.save(exported, file)
    return exported


def tensors(exported: onnx.ModelProto, code_layer: int) -> tuple[str, str]:
    """Name the tensors with the values of a hidden layer, the first being 1, and of the output."""
    nodes = exported.graph.node
    activations = [node.output[0] for node in nodes if node.op_type == "Tanh"]
    # the last node makes one long column of the answers to all rows
    return activations[code_layer - 1], nodes[-1].input[0]


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.tanh(random.normal(size=(300, 3)) @ random.normal(size=(3, 12))).astype(np.float32)
    network = MLPRegressor(hidden_layer_sizes=(8, 3, 8), activation="tanh", random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(rows, rows)
    exported = export(model, rows, folder / "autoencoder.onnx")
    print("--code {} --output {}".format(*tensors(exported, code_layer=2)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
