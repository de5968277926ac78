"""What a step minimises: how far the pixels are off, and what a recipe asks for beside that."""

import math

import torch
from torch.nn.functional import (
    affine_grid,
    binary_cross_entropy_with_logits,
    grid_sample,
    mse_loss,
)

from training.clusters import pull
from training.networks import Autoencoder
from training.recipe import Blots, Distortion, Objective

Rows = torch.Tensor

LEAST_ACTIVITY = 1e-4  # of a silent channel, whose logarithm has to be a number


def loss(
    network: Autoencoder,
    objective: Objective,
    rows: Rows,
    generator: torch.Generator,
    clusters: torch.Tensor | None = None,
) -> torch.Tensor:
    """Give the loss of one batch.

    Args:
        network: What is trained.
        objective: What counts, and how much.
        rows: Clean pictures.
        generator: Of noise, distortions and blots.
        clusters: Number of the cluster of each row, where the objective has clusters.
    """
    seen = noisy(rows, objective.noise, generator)
    if objective.distortion is not None:
        seen = distorted(seen, objective.distortion, generator)
    if objective.blots is not None:
        seen = blotted(seen, objective.blots, generator)
    codes = network.encoder(seen)
    total = _of_pixels(objective.pixels, network.decoder(codes), rows)
    if objective.sparsity:
        total = total + objective.sparsity * codes.abs().mean()
    if objective.channels:
        total = total + objective.evenness * unevenness(codes, objective)
    if clusters is not None and network.centres is not None:
        total = total + objective.clustering * pull(codes, network.centres, clusters)
    return total


def unevenness(codes: torch.Tensor, objective: Objective) -> torch.Tensor:
    """Say how far the channels of a code are from being used as much as is asked for.

    The mean over the channels of the Kullback-Leibler divergence between two coins, the wanted and
    the found activity (Ng, "Sparse Autoencoder", 2011). Values without a bound become activities
    by 1 - exp(-value). A penalty on values alone lets the channels die that were of little use in
    the first steps; this one grows without bound as a channel falls silent.

    Args:
        codes: Never negative, ``(rows, channels * places)``.
        objective: How many channels, and their activity.
    """
    per_channel = codes.reshape(len(codes), objective.channels, -1)
    found = (1 - torch.exp(-per_channel)).mean(dim=(0, 2)).clamp(LEAST_ACTIVITY, 1 - LEAST_ACTIVITY)
    wanted = torch.full_like(found, objective.activity)
    on = wanted * (wanted / found).log()
    off = (1 - wanted) * ((1 - wanted) / (1 - found)).log()
    return (on + off).mean()


def _of_pixels(kind: str, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
    if kind == "bce":
        return binary_cross_entropy_with_logits(logits, rows)
    return mse_loss(logits.sigmoid(), rows)


def noisy(rows: Rows, deviation: float, generator: torch.Generator) -> Rows:
    """Add Gaussian noise and clip to [0, 1], as a camera would; without noise give *rows*."""
    if not deviation:
        return rows
    noise = torch.randn(rows.shape, generator=generator)
    return (rows + deviation * noise).clamp(0, 1)


def distorted(rows: Rows, distortion: Distortion, generator: torch.Generator) -> Rows:
    """Turn, shift and zoom each picture by a little, each by another amount."""
    turn, zoom, right, down = torch.rand((4, len(rows)), generator=generator) * 2 - 1
    angle = turn * math.radians(distortion.degrees)
    scale = 1 + zoom * distortion.zoom
    shift = 2 * distortion.pixels / rows.shape[-1]  # a picture is 2 wide for affine_grid
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows_of_matrix = [
        torch.stack([cosine, -sine, right * shift], dim=1),
        torch.stack([sine, cosine, down * shift], dim=1),
    ]
    matrix = torch.stack(rows_of_matrix, dim=1)
    grid = affine_grid(matrix, list(rows.shape), align_corners=False)
    return grid_sample(rows, grid, align_corners=False)


def blotted(rows: Rows, blots: Blots, generator: torch.Generator | None = None) -> Rows:
    """Cover a square of pictures, of a random place, side and value from 0 to 1.

    Args:
        rows: Height and width are the last axes.
        blots: How large, and of how many pictures.
        generator: Of all that is random; torch's own where there is none.
    """
    count, (height, width) = len(rows), rows.shape[-2:]
    sides = torch.randint(2, blots.largest + 1, (count, 1), generator=generator)
    tops = (torch.rand(count, 1, generator=generator) * (height - sides + 1)).floor()
    lefts = (torch.rand(count, 1, generator=generator) * (width - sides + 1)).floor()
    lines, columns = torch.arange(height), torch.arange(width)
    down = (lines >= tops) & (lines < tops + sides)
    right = (columns >= lefts) & (columns < lefts + sides)
    is_covered = (down[:, :, None] & right[:, None, :])[:, None]
    values = torch.rand(count, 1, 1, 1, generator=generator)
    if blots.share < 1:
        is_covered &= torch.rand(count, 1, 1, 1, generator=generator) < blots.share
    return torch.where(is_covered, values, rows)
