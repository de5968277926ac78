"""The layers of a network by name: for the model card, and for clients who ask for one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from service.repository.manifest import InnerTensor, Layer
from training.networks import Autoencoder
from training.tables import Scaled

# what a layer is called, and the kind that the card gives
KINDS: dict[type[nn.Module], tuple[str, str]] = {
    nn.Conv2d: ("conv", "convolution"),
    nn.Linear: ("dense", "dense"),
    nn.Flatten: ("flatten", "flatten"),
    nn.Unflatten: ("reshape", "reshape"),
    nn.PixelShuffle: ("shuffle", "pixel shuffle"),
    Scaled: ("scale", "scaling by mean and deviation"),
}
ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Sigmoid: "sigmoid"}

Rows = torch.Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """A layer, and the module of its half after which its values are there.

    Attributes:
        layer: As the card tells of it.
        module: Number in the half; that of the activation, where the layer has one.
        is_inner: It computes something, and the result is neither the code nor the output.
    """

    layer: Layer
    module: int
    is_inner: bool

    @property
    def tensor(self) -> InnerTensor:
        """Where the layer is found in the exported file."""
        file = "encoder" if self.layer.part == "encoder" else "decoder"
        shape = tuple(self.layer.output_shape)
        return InnerTensor(file=file, tensor=self.layer.name, dtype="float32", shape=shape)


def finished_decoder(network: Autoencoder) -> nn.Sequential:
    """Give the decoder with the sigmoid that training leaves to the loss, where it does."""
    return nn.Sequential(*network.decoder, *([nn.Sigmoid()] if network.gives_logits else []))


@torch.inference_mode()
def places(network: Autoencoder, rows: Rows) -> list[Place]:
    """List every layer in the order of the data; *rows* are sent through for the shapes."""
    codes = network.encoder(rows)
    encoder = _part("encoder", network.encoder, rows)
    return [*encoder, *_part("decoder", finished_decoder(network), codes)]


def _part(part: str, modules: nn.Sequential, rows: Rows) -> Iterator[Place]:
    """Each layer with the activation behind it; they are numbered by kind, from one."""
    numbers: Counter[str] = Counter()
    count, number = len(modules), 0
    while number < count:
        module = modules[number]
        rows = module(rows)
        name = KINDS[type(module)][0]
        numbers[name] += 1
        activation = None
        if number + 1 < count and type(modules[number + 1]) in ACTIVATIONS:
            number += 1
            rows = modules[number](rows)
            activation = ACTIVATIONS[type(modules[number])]
        layer = _layer(f"{part}.{name}{numbers[name]}", part, module, list(rows.shape[1:]))
        is_inner = layer.nodes is not None and number + 1 < count
        yield Place(layer.model_copy(update={"activation": activation}), number, is_inner)
        number += 1


def _layer(name: str, part: str, module: nn.Module, output_shape: list[int | None]) -> Layer:
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
    return Layer(
        name=name,
        kind=KINDS[type(module)][1],
        part=part,
        nodes=_nodes(module),
        kernel=list(kernel) if kernel else None,
        stride=list(stride) if stride else None,
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


class Traced(nn.Module):
    """Half of an autoencoder that also gives what its inner layers give.

    Args:
        modules: The half.
        inner: Numbers of the modules whose values are given, after the result.
        centres: Centres of clusters in the result, whose nearest is given right after it.
    """

    def __init__(
        self,
        modules: nn.Sequential,
        inner: Sequence[int] = (),
        centres: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.modules_in_order = modules
        self.inner = tuple(inner)
        self.centres = None if centres is None else centres.detach()

    def forward(self, rows: Rows) -> Rows | tuple[Rows, ...]:
        values = []
        for number, module in enumerate(self.modules_in_order):
            rows = module(rows)
            if number in self.inner:
                values.append(rows)
        results = [rows] if self.centres is None else [rows, nearest(rows, self.centres)]
        given = (*results, *values)
        return given if len(given) > 1 else given[0]


def nearest(codes: Rows, centres: torch.Tensor) -> torch.Tensor:
    """Number of the nearest centre; the length of a code changes nothing in the order."""
    return (centres.square().sum(dim=1) - 2 * codes @ centres.T).argmin(dim=1)
