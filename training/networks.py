"""The networks: an encoder to a short code and a decoder back; sizes come from the recipe."""

from dataclasses import dataclass

import torch
from torch import nn


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


class Autoencoder(nn.Module):
    """An encoder and a decoder; the decoder gives logits, which is what the loss wants."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.decoder(self.encoder(rows))
        return logits


def convolutional(sizes: ConvolutionalSizes) -> Autoencoder:
    """Halve the picture twice, press it into the code, and go back the same way.

    Pictures grow by pixel shuffling: a convolution gives four times the channels, which become
    the four pixels of each place. That costs a quarter of a convolution on the larger picture,
    and unlike a transposed convolution it is exact on every execution provider.
    """
    quarter_side = sizes.side // 4
    quarter_shape = (sizes.quarter_channels, quarter_side, quarter_side)
    quarter_values = sizes.quarter_channels * quarter_side**2
    encoder = nn.Sequential(
        nn.Conv2d(1, sizes.half_channels, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(sizes.half_channels, sizes.quarter_channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(quarter_values, sizes.code),
    )
    decoder = nn.Sequential(
        nn.Linear(sizes.code, quarter_values),
        nn.ReLU(),
        nn.Unflatten(1, quarter_shape),
        nn.Conv2d(sizes.quarter_channels, 4 * sizes.half_channels, 3, padding=1),
        nn.ReLU(),
        nn.PixelShuffle(2),
        nn.Conv2d(sizes.half_channels, sizes.half_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(sizes.half_channels, 4, 3, padding=1),
        nn.PixelShuffle(2),
    )
    return Autoencoder(encoder, decoder)
