"""From torch to ``encoder.onnx`` and ``decoder.onnx``, with proof that they do the same.

The decoder's file ends with the sigmoid that training leaves to the loss, so that a
reconstruction lies in [0, 1] like the input.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx.external_data_helper
import torch
from torch import nn

from service.inference.providers import Device
from service.inference.session import OrtSession
from training.networks import Autoencoder

Rows = npt.NDArray[np.float32]

OPSET = 18  # the lowest one in which ReduceMean takes its axes as an input, as the service needs
# 1 is the size that a graph most easily gets wrong, 7 divides nothing
PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-5


class ExportError(Exception):
    """A graph is not what the package needs, or does not do what the network does."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Both graphs as bytes, and how far they are from the network."""

    encoder: bytes
    decoder: bytes
    max_difference: float


def export(network: Autoencoder, rows: Rows, *, tolerance: float = PARITY_TOLERANCE) -> Exported:
    """Write both halves of *network* as ONNX and compare them with it.

    Args:
        network: Trained; it is switched to evaluation.
        rows: At least 64 rows to compare with.
        tolerance: Largest difference that roundings may make.

    Raises:
        ExportError: A graph has a fixed batch axis or outside weights, or differs too much.
    """
    network = network.eval()
    pictures = torch.from_numpy(rows[: max(PARITY_BATCHES)])
    decoder = nn.Sequential(network.decoder, nn.Sigmoid())
    with torch.inference_mode():
        codes = network.encoder(pictures)
    encoder_onnx = to_onnx(network.encoder, pictures, source="input", target="code")
    decoder_onnx = to_onnx(decoder, codes.clone(), source="code", target="reconstruction")
    difference = max(
        parity(network.encoder, [encoder_onnx], pictures),
        parity(decoder, [decoder_onnx], codes),
        parity(nn.Sequential(network.encoder, decoder), [encoder_onnx, decoder_onnx], pictures),
    )
    if not difference <= tolerance:
        raise ExportError(f"ONNX Runtime differs from torch by {difference:.1e}")
    return Exported(encoder_onnx, decoder_onnx, difference)


def to_onnx(module: nn.Module, example: torch.Tensor, *, source: str, target: str) -> bytes:
    """Export one graph whose first axis is free, as one file with its weights inside.

    Args:
        module: In evaluation mode, one tensor in and one out.
        example: At least two rows: with one, the exporter takes the batch axis for a constant.
        source: Name of the graph's input.
        target: Name of the graph's output.
    """
    # the exporter reports on packages that are not here and warns of its own use of torch
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[source],
            output_names=[target],
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            opset_version=OPSET,
            dynamo=True,  # said aloud, because the default has changed between versions
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("the exporter gave nothing back")
    model = program.model_proto
    _forget_origin(model)
    check_graph(model)
    data: bytes = model.SerializeToString()
    return data


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the stack traces that the exporter stores with every node: paths of this machine."""
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
        del part.metadata_props[:]
        part.doc_string = ""


def check_graph(model: onnx.ModelProto) -> None:
    """See that a graph takes any number of rows and needs no second file.

    Raises:
        ExportError: The batch axis is fixed, or weights lie outside.
    """
    onnx.checker.check_model(model, full_check=True)
    for tensor in [*model.graph.input, *model.graph.output]:
        if not tensor.type.tensor_type.shape.dim[0].dim_param:
            raise ExportError(f"the batch axis of '{tensor.name}' is fixed")
    if any(onnx.external_data_helper.uses_external_data(t) for t in model.graph.initializer):
        raise ExportError("weights lie outside the file")


def parity(module: nn.Module, graphs: Sequence[bytes], rows: torch.Tensor) -> float:
    """Give the largest difference between *module* and *graphs* run one after the other."""
    sessions = [OrtSession(graph, Device()) for graph in graphs]
    differences = []
    for batch in PARITY_BATCHES:
        part = rows[:batch]
        with torch.inference_mode():
            expected = module(part).numpy()
        answer = part.numpy()
        for session in sessions:
            (answer,) = session.run(answer)
        differences.append(float(np.abs(answer - expected).max()))
    return max(differences)
