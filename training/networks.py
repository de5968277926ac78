"""The networks: an encoder to a code and a decoder back; sizes come from the recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch
from torch import nn

BLACK = -4.0  # as a logit: a fiftieth of white
AWAKE = 0.5  # what a unit gives at first, for one that gives nothing cannot learn


class Autoencoder(nn.Module):
    """An encoder and a decoder; the decoder mostly gives logits, which is what the loss wants.

    Args:
        encoder: Pictures to codes.
        decoder: Codes to logits of pixels, or to values.
        centres: Centres of clusters, ``(clusters, code)``, for a code that is made for them.
    """

    gives_logits = True  # and not values, which need no sigmoid

    def __init__(
        self, encoder: nn.Sequential, decoder: nn.Sequential, centres: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.centres = None if centres is None else nn.Parameter(centres)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.decoder(self.encoder(rows))
        return logits


def dense(shape: Sequence[int], widths: Sequence[int], code: int) -> Autoencoder:
    """Fully connected layers that grow narrower down to the code, and the same way back.

    Args:
        shape: Of a picture, without the batch.
        widths: Nodes of each layer between the picture and the code.
        code: Values of the code, which no activation bounds.
    """
    down = [prod(shape), *widths, code]
    encoder = nn.Sequential(nn.Flatten(), *_dense_layers(down))
    decoder = nn.Sequential(*_dense_layers(down[::-1]), nn.Unflatten(1, tuple(shape)))
    return Autoencoder(encoder, decoder)


def _dense_layers(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers with a ReLU between two of them."""
    layers: list[nn.Module] = []
    for taken, given in pairwise(widths):
        layers += [nn.Linear(taken, given), nn.ReLU()]
    return layers[:-1]


@dataclass(frozen=True, slots=True)
class ConvolutionalSizes:
    """Sizes of a convolutional autoencoder for grey pictures whose sides divide by four.

    Attributes:
        side: Height and width of a picture.
        half_channels: Channels at half of the side, on the way down and on the way up.
        quarter_channels: Channels at a quarter of the side, likewise.
        code: Values of the code.
    """

    side: int
    half_channels: int
    quarter_channels: int
    code: int


def convolutional(sizes: ConvolutionalSizes) -> Autoencoder:
    """Halve the picture twice, press it into the code, and go back the same way.

    Pictures grow by pixel shuffling: a convolution gives four times the channels, which become
    the four pixels of each place. That costs a quarter of a convolution on the larger picture,
    and unlike a transposed convolution it is exact on every execution provider.
    """
    quarter_side = sizes.side // 4
    quarter_shape = (sizes.quarter_channels, quarter_side, quarter_side)
    encoder = nn.Sequential(
        *_halved_twice(sizes.half_channels, sizes.quarter_channels),
        nn.Flatten(),
        nn.Linear(prod(quarter_shape), sizes.code),
    )
    decoder = nn.Sequential(
        nn.Linear(sizes.code, prod(quarter_shape)),
        nn.ReLU(),
        nn.Unflatten(1, quarter_shape),
        *_doubled_twice(sizes.half_channels, sizes.quarter_channels),
    )
    return Autoencoder(encoder, decoder)


def _halved_twice(half_channels: int, quarter_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(1, half_channels, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(half_channels, quarter_channels, 3, stride=2, padding=1),
        nn.ReLU(),
    ]


def _doubled_twice(half_channels: int, quarter_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(quarter_channels, 4 * half_channels, 3, padding=1),
        nn.ReLU(),
        nn.PixelShuffle(2),
        nn.Conv2d(half_channels, half_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(half_channels, 4, 3, padding=1),
        nn.PixelShuffle(2),
    ]


def dictionary(side: int, *, hidden: tuple[int, int], strokes: int) -> Autoencoder:
    """Many units, each of which stands for one stroke at one place.

    The code has *strokes* values, never negative, at each place of a grid of a quarter of the
    side: more values than a picture has pixels, once there are more than 16. The decoder is one
    convolution without an activation, so a unit adds the same to a picture whatever the others do
    and can be looked at alone.

    Args:
        side: Height and width of a picture, a multiple of four.
        hidden: Channels at half and at a quarter of the side on the way to the code.
        strokes: Different strokes, at each place.
    """
    quarter_shape = (strokes, side // 4, side // 4)
    finding = nn.Conv2d(hidden[1], strokes, 3, padding=1)
    finding.bias = nn.Parameter(torch.full((strokes,), AWAKE))
    encoder = nn.Sequential(
        *_halved_twice(*hidden),
        finding,
        nn.ReLU(),
        nn.Flatten(),
    )
    drawing = nn.Conv2d(strokes, 16, 3, padding=1)
    # the paper is black from the start, else units learn to blacken it and the others die
    drawing.bias = nn.Parameter(torch.full((16,), BLACK))
    decoder = nn.Sequential(nn.Unflatten(1, quarter_shape), drawing, nn.PixelShuffle(4))
    return Autoencoder(encoder, decoder)


def grid(side: int, *, hidden: tuple[int, int], channels: int) -> Autoencoder:
    """Halve the picture twice and go back, with a code that keeps a value's place.

    As in ``convolutional``, but for the middle: each place of a grid of a quarter of the side has
    *channels* values of its own, so what is drawn at a place follows from what was seen about it.

    Args:
        side: Height and width of a picture, a multiple of four.
        hidden: Channels at half and at a quarter of the side.
        channels: Values of the code at each place.
    """
    _, quarter = hidden
    encoder = nn.Sequential(
        *_halved_twice(*hidden), nn.Conv2d(quarter, channels, 3, padding=1), nn.Flatten()
    )
    decoder = nn.Sequential(
        nn.Unflatten(1, (channels, side // 4, side // 4)),
        nn.Conv2d(channels, quarter, 3, padding=1),
        nn.ReLU(),
        *_doubled_twice(*hidden),
    )
    return Autoencoder(encoder, decoder)


def with_centres(network: Autoencoder, clusters: int, code: int) -> Autoencoder:
    """Give a network centres of clusters, at random until training has moved them."""
    return Autoencoder(network.encoder, network.decoder, torch.randn(clusters, code))
