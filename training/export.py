"""From torch to ONNX: one file, any number of rows, proved to do the same.

``to_onnx`` is all that a network of one's own needs: it gives the bytes of an ``encoder.onnx`` or
a ``decoder.onnx`` for ``service.packaging.write_package``. ``export`` calls it for both halves of
an autoencoder.
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
from training.layers import Place, Traced, finished_decoder, places
from training.networks import Autoencoder

Rows = npt.NDArray[np.float32]

OPSET = 18  # the lowest one in which ReduceMean takes its axes as an input, as the service needs
# 1 is the size that a graph most easily gets wrong, 7 divides nothing
PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-5


class ExportError(Exception):
    """A graph is not what the package needs, or does not do what the network does."""


def to_onnx(
    module: nn.Module,
    example: torch.Tensor,
    *,
    source: str,
    targets: Sequence[str],
    inner: Sequence[str] = (),
) -> bytes:
    """Export one graph whose first axis is free, as one file with its weights inside.

    Args:
        module: In evaluation mode; one tensor in, as many out as there are *targets* and *inner*.
        example: At least two rows: with one, the exporter takes the batch axis for a constant.
        source: Name of the graph's input.
        targets: Names of the graph's outputs.
        inner: Names of further tensors that *module* gives; they keep these names inside the
            graph and are no outputs of it.

    Raises:
        ExportError: The graph has a fixed batch axis or outside weights.
    """
    # the exporter reports on packages that are not here and warns of its own use of torch
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[source],
            output_names=[*targets, *inner],
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            opset_version=OPSET,
            dynamo=True,  # said aloud, because the default has changed between versions
            external_data=False,  # else even small weights go to a second file
            verbose=False,
        )
    if program is None:
        raise ExportError("the exporter gave nothing back")
    model = program.model_proto
    check_graph(model)
    _keep_inside(model, inner)
    _forget_origin(model)
    data: bytes = model.SerializeToString()
    return data


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


def _keep_inside(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Make outputs that were asked for only to be named into tensors of the inside."""
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(output for output in outputs if output.name not in names)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop the stack traces that the exporter stores with every node: paths of this machine."""
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
        del part.metadata_props[:]
        part.doc_string = ""


def parity(
    module: nn.Module, graphs: Sequence[bytes], rows: torch.Tensor, *, unit: Rows | None = None
) -> float:
    """Give the largest difference between *module* and *graphs* run one after the other.

    Args:
        module: Gives one tensor, or several in the order of the last graph's outputs.
        graphs: The first output of each is the input of the next.
        rows: As many as the largest of the batches that are tried.
        unit: What a difference is divided by, for each feature of what is given.
    """
    sessions = [OrtSession(graph, Device()) for graph in graphs]
    differences = []
    for batch in PARITY_BATCHES:
        answers = [rows[:batch].numpy()]
        for session in sessions:
            answers = list(session.run(answers[0]))
        with torch.inference_mode():
            expected = module(rows[:batch])
        tensors = expected if isinstance(expected, tuple) else (expected,)
        pairs = zip(answers, tensors, strict=True)
        found = [np.abs(given - tensor.numpy()) for given, tensor in pairs]
        differences += [float((each if unit is None else each / unit).max()) for each in found]
    return max(differences)


@dataclass(frozen=True, slots=True)
class Exported:
    """Both graphs as bytes, and how far they are from the network.

    Attributes:
        encoder: ``input`` -> ``code`` and, of a network with centres, ``cluster``.
        decoder: ``code`` -> ``reconstruction``.
        layers: What is inside them; inner layers go by their names.
        max_difference: To the network, of codes, reconstructions and clusters.
    """

    encoder: bytes
    decoder: bytes
    layers: list[Place]
    max_difference: float


def export(
    network: Autoencoder,
    rows: Rows,
    *,
    tolerance: float = PARITY_TOLERANCE,
    unit: Rows | None = None,
) -> Exported:
    """Write both halves of *network* as ONNX and compare them with it.

    Args:
        network: Trained; it is switched to evaluation.
        rows: At least 64 rows to compare with.
        tolerance: Largest difference that roundings may make.
        unit: Of each feature of a row, where values have no common range.

    Raises:
        ExportError: A graph is not usable, or differs too much.
    """
    network = network.eval()
    pictures = torch.from_numpy(rows[: max(PARITY_BATCHES)])
    encoder, decoder = Traced(network.encoder, centres=network.centres), finished_decoder(network)
    with torch.inference_mode():
        codes = network.encoder(pictures).clone()
    layers = places(network, pictures)
    encoder_onnx = _half("encoder", encoder, pictures, layers)
    decoder_onnx = _half("decoder", Traced(decoder), codes, layers)
    difference = max(
        parity(encoder, [encoder_onnx], pictures),
        parity(decoder, [decoder_onnx], codes, unit=unit),
        parity(
            nn.Sequential(network.encoder, decoder),
            [encoder_onnx, decoder_onnx],
            pictures,
            unit=unit,
        ),
    )
    if not difference <= tolerance:
        raise ExportError(f"ONNX Runtime differs from torch by {difference:.1e}")
    return Exported(encoder_onnx, decoder_onnx, layers, difference)


def _half(part: str, half: Traced, example: torch.Tensor, layers: Sequence[Place]) -> bytes:
    """Export one half with the names of its inner layers."""
    inner = [place for place in layers if place.layer.part == part and place.is_inner]
    source, targets = {
        "encoder": ("input", ["code", "cluster"] if half.centres is not None else ["code"]),
        "decoder": ("code", ["reconstruction"]),
    }[part]
    return to_onnx(
        Traced(half.modules_in_order, [place.module for place in inner], half.centres),
        example,
        source=source,
        targets=targets,
        inner=[place.layer.name for place in inner],
    )
