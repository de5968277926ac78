"""The autoencoder of RaPP's own experiments: deep, dense, with a bottleneck and without noise.

Kim et al., "RaPP: Novelty Detection with Reconstruction along Projection Pathway", ICLR 2020:
symmetric and fully connected, LeakyReLU and batch normalization, Adam. What the paper leaves open
is as in a public implementation (github.com/Aiden-Jeon/RaPP) whose printed means, .8585 for the
error and .9165 for NAP, are those of the paper when rounded: widths fall in equal steps, batch
normalization stands after all layers, those of the code and of the reconstruction included, the
rate is constant and the weights are those of the last epoch, of which there are 200.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from benchmarks.detection.sets import Rows
from training.networks import Autoencoder


@dataclass(frozen=True, slots=True)
class DeepRecipe:
    """Sizes and schedule.

    Attributes:
        depth: Layers of the encoder, and of the decoder.
        code: Values of the code.
        epochs: Times that every row is seen.
        batch_rows: Rows a step.
        learning_rate: At every step.
    """

    depth: int
    code: int
    epochs: int
    batch_rows: int
    learning_rate: float


class DeepNetwork(Autoencoder):
    """Encoder and decoder for rows of *size* numbers."""

    gives_logits = False

    def __init__(self, size: int, recipe: DeepRecipe) -> None:
        down = widths(size, recipe)
        super().__init__(nn.Sequential(*_blocks(down)), nn.Sequential(*_blocks(down[::-1])))

    def layers(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Give what every layer of the encoder makes of *rows*, the code last."""
        found, values = [], rows
        for block in self.encoder:
            values = block(values)
            found.append(values)
        return found


def widths(size: int, recipe: DeepRecipe) -> list[int]:
    """Give the nodes from the input to the code, in equal steps."""
    return [int(width) for width in np.linspace(size, recipe.code, recipe.depth + 1).tolist()]


def _blocks(sizes: Sequence[int]) -> list[nn.Module]:
    layers = [[nn.Linear(taken, given), nn.BatchNorm1d(given)] for taken, given in pairwise(sizes)]
    return [
        *(nn.Sequential(*layer, nn.LeakyReLU()) for layer in layers[:-1]),
        nn.Sequential(*layers[-1]),
    ]


def fit_deep(rows: Rows, recipe: DeepRecipe, *, seed: int) -> DeepNetwork:
    """Train on normal rows."""
    torch.manual_seed(seed)
    network = DeepNetwork(rows.shape[1], recipe).train()
    known = torch.from_numpy(rows)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    for _ in range(recipe.epochs):
        for batch in _batches(known, recipe.batch_rows):
            _step(network, batch, optimizer)
    return network.eval()


def _step(network: DeepNetwork, batch: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    # in bfloat16, which takes half the time where the processor has units for it
    with torch.autocast("cpu", torch.bfloat16):
        loss = mse_loss(network(batch), batch)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _batches(rows: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Give all rows once in a new order; what does not fill the last batch is left out."""
    order = torch.randperm(len(rows))
    for start in range(0, len(rows) - size + 1, size):
        yield rows[order[start : start + size]]
