"""The autoencoder of RaPP's own experiments: deep, dense, with a bottleneck and without noise.

Kim et al., "RaPP: Novelty Detection with Reconstruction along Projection Pathway", ICLR 2020:
symmetric and fully connected, LeakyReLU and batch normalization after every layer but the last,
Adam, the weights with the lowest validation loss. The paper does not say how wide the layers are;
here their widths fall in equal steps.
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

LAST_RATE = 1e-2  # of the learning rate, to which it falls in a line


@dataclass(frozen=True, slots=True)
class DeepRecipe:
    """Sizes and schedule.

    Attributes:
        depth: Layers of the encoder, and of the decoder.
        code: Values of the code.
        epochs: Times that every row is seen.
        batch_rows: Rows a step.
        learning_rate: At the first step.
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
    return [round(width) for width in np.linspace(size, recipe.code, recipe.depth + 1).tolist()]


def _blocks(sizes: Sequence[int]) -> list[nn.Module]:
    blocks: list[nn.Module] = [
        nn.Sequential(nn.Linear(taken, given), nn.BatchNorm1d(given), nn.LeakyReLU())
        for taken, given in pairwise(sizes[:-1])
    ]
    return [*blocks, nn.Linear(sizes[-2], sizes[-1])]


def fit_deep(rows: Rows, validation: Rows, recipe: DeepRecipe, *, seed: int) -> DeepNetwork:
    """Train on normal rows; keep the weights with the lowest loss on *validation*."""
    torch.manual_seed(seed)
    network = DeepNetwork(rows.shape[1], recipe)
    known, kept = torch.from_numpy(rows), torch.from_numpy(validation)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    steps = recipe.epochs * (len(rows) // recipe.batch_rows)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, steps)
    lowest, best = float("inf"), network.state_dict()
    for _ in range(recipe.epochs):
        for batch in _batches(known, recipe.batch_rows):
            _step(network.train(), batch, optimizer)
            fall.step()
        if (loss := _loss(network, kept)) < lowest:
            lowest = loss
            best = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
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


@torch.inference_mode()
def _loss(network: DeepNetwork, rows: torch.Tensor) -> float:
    network.eval()
    return mse_loss(network(rows), rows).item()
