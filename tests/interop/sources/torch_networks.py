"""Small autoencoders in PyTorch with random weights, one for each kind that people export."""

import torch
from torch import nn

FEATURES = 20
PICTURE = (1, 12, 12)


class Autoencoder(nn.Module):
    """An encoder and a decoder, as most people write it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(rows))


class Variational(nn.Module):
    """Gives reconstruction, mean and log-variance; draws a code while it is trained only."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Moments()
        self.decoder = _dense_decoder(4)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_variance = self.encoder(rows)
        code = mean
        if self.training:
            code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return self.decoder(code), mean, log_variance


class Moments(nn.Module):
    """The encoder of a variational autoencoder: mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU())
        self.mean = nn.Linear(16, 4)
        self.log_variance = nn.Linear(16, 4)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(rows)
        return self.mean(hidden), self.log_variance(hidden)


class Quantiser(nn.Module):
    """Replaces the vectors of a feature map by the numbers of the nearest entries of a book."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.book = nn.Parameter(torch.randn(entries, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        vectors = features.permute(0, 2, 3, 1)
        # |a - b|^2 without |a|^2, which is the same for every entry
        distances = (self.book**2).sum(1) - 2 * vectors @ self.book.T
        return distances.argmin(dim=3)


class Lookup(nn.Module):
    """The way back: numbers to a feature map."""

    def __init__(self, book: nn.Parameter) -> None:
        super().__init__()
        self.book = book

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(numbers, self.book).permute(0, 3, 1, 2)


class UNet(nn.Module):
    """Two levels with a connection around the narrow one."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU())
        self.narrow = nn.Sequential(
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )
        self.up = nn.Sequential(nn.Conv2d(14, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        wide = self.down(rows)
        return self.up(torch.cat([wide, self.narrow(wide)], dim=1))


class Flatten(nn.Module):
    """Makes a row of a picture, and a constant of the number of rows when it is exported."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.view(int(rows.shape[0]), -1)


def dense() -> Autoencoder:
    encoder = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3))
    return Autoencoder(encoder, _dense_decoder(3))


def convolutional() -> Autoencoder:
    """With batch normalisation, and nearest upsampling on the way back."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )
    decoder = nn.Sequential(
        nn.Linear(5, 8 * 36),
        nn.Unflatten(1, (8, 6, 6)),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(8, 1, 3, padding=1),
        nn.Sigmoid(),
    )
    return Autoencoder(encoder, decoder)


def flattened() -> Autoencoder:
    encoder = nn.Sequential(Flatten(), nn.Linear(144, 5))
    decoder = nn.Sequential(nn.Linear(5, 144), nn.Sigmoid(), nn.Unflatten(1, PICTURE))
    return Autoencoder(encoder, decoder)


def transposed() -> Autoencoder:
    """With ``ConvTranspose`` on the way back, and a code that is a small picture."""
    encoder = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.Tanh())
    decoder = nn.Sequential(
        nn.ConvTranspose2d(6, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid()
    )
    return Autoencoder(encoder, decoder)


def vector_quantised() -> Autoencoder:
    quantiser = Quantiser(entries=16, width=4)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), quantiser)
    decoder = nn.Sequential(
        Lookup(quantiser.book),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(4, 1, 3, padding=1),
        nn.Sigmoid(),
    )
    return Autoencoder(encoder, decoder)


def _dense_decoder(size: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, FEATURES), nn.Sigmoid())
