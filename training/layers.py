"""Reads the layers of a network for the model card, with the shapes that they really give."""

from collections.abc import Iterator

import torch
from torch import nn

from service.repository.manifest import Layer
from training.networks import Autoencoder

KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "convolution",
    nn.Linear: "dense",
    nn.Flatten: "flatten",
    nn.Unflatten: "reshape",
    nn.PixelShuffle: "pixel shuffle",
}
ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid"}

Rows = torch.Tensor


@torch.inference_mode()
def describe(network: Autoencoder, row: Rows) -> list[Layer]:
    """List every layer in the order of the data; *row* is a batch of one to send through."""
    decoder = nn.Sequential(*network.decoder, nn.Sigmoid())
    codes = network.encoder(row)
    return [*_part("encoder", network.encoder, row), *_part("decoder", decoder, codes)]


def _part(part: str, modules: nn.Sequential, rows: Rows) -> Iterator[Layer]:
    layer: Layer | None = None
    for number, module in enumerate(modules):
        rows = module(rows)
        if type(module) in ACTIVATIONS and layer is not None:
            layer = layer.model_copy(update={"activation": ACTIVATIONS[type(module)]})
            continue
        if layer is not None:
            yield layer
        layer = _layer(f"{part}.{number}", part, module, list(rows.shape[1:]))
    if layer is not None:
        yield layer


def _layer(name: str, part: str, module: nn.Module, output_shape: list[int | None]) -> Layer:
    """Describe one layer; it is named after its part and its place there."""
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
    return Layer(
        name=name,
        kind=KINDS[type(module)],
        part=part,
        nodes=_nodes(module),
        kernel=list(kernel) if kernel else None,
        stride=list(stride) if stride else None,
        activation=None,
        output_shape=output_shape,
    )


def _nodes(module: nn.Module) -> int | None:
    match module:
        case nn.Conv2d():
            return module.out_channels
        case nn.Linear():
            return module.out_features
        case _:
            return None
