"""Layers that begin with the weights of a model that is there already."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from training.networks import Autoencoder
from training.recipe import Inheritance


def inherit(network: Autoencoder, inheritance: Inheritance, models: Path) -> None:
    """Put weights of a bundled model into *network*.

    They are read from the exported files, where the exporter has kept torch's names of them.

    Args:
        network: Freshly initialised.
        inheritance: Whose weights, and which.
        models: The model repository.
    """
    folder = models / inheritance.model / str(inheritance.version)
    halves = [
        (folder / "encoder.onnx", network.encoder, inheritance.encoder),
        (folder / "decoder.onnx", network.decoder, inheritance.decoder),
    ]
    for path, half, numbers in halves:
        weights = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
        for number in numbers:
            _fill(half[number], f"{number}", weights)
            half[number].requires_grad_(not inheritance.frozen)


def _fill(module: nn.Module, number: str, weights: dict[str, TensorProto]) -> None:
    for name, parameter in module.named_parameters():
        # what stands before the number depends on what the half was wrapped in for its export
        (stored,) = [t for key, t in weights.items() if f".{key}".endswith(f".{number}.{name}")]
        parameter.data.copy_(torch.from_numpy(np.array(numpy_helper.to_array(stored))))
