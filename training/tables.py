"""A dense autoencoder for rows of numbers that was trained to take noise off them.

Made for detection rather than reconstruction. Rows come with their scale, so that they enter the
layers with mean 0 and deviation 1 and leave them in the units they came in: the scaling is part
of the graph. While it learns, the network sees rows with noise and has to give them back
without. So it cannot copy, however many values its code has, and what it adds to a row points to
where normal rows are dense: the difference is in proportion to the slope of their log density
(Vincent, "A Connection Between Score Matching and Denoising Autoencoders", 2011; Alain and Bengio,
"What Regularized Auto-Encoders Learn from the Data-Generating Distribution", 2014). How far a row
is off is then read from all layers, by the measure ``rapp``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import mse_loss

Rows = npt.NDArray[np.float32]

# a column that hardly moves is not blown up: what differs in it then counts as it is
SMALLEST_DEVIATION = 1e-6
LAST_RATE = 1e-2  # of the learning rate, to which it falls in a line


@dataclass(frozen=True, slots=True)
class TableRecipe:
    """Sizes and schedule.

    Attributes:
        widths: Nodes of the layers between a row and its code.
        code: Values of the code; noise and not its size keeps the network from copying.
        noise: Deviation of the noise, where a column's own is 1.
        steps: Steps of learning.
        batch_rows: Rows a step, drawn anew each time.
        learning_rate: At the first step.
    """

    widths: tuple[int, ...] = (128, 64)
    code: int = 32
    noise: float = 1.0
    steps: int = 2000
    batch_rows: int = 256
    learning_rate: float = 2e-3


class Scaled(nn.Module):
    """Takes the mean off and divides by the deviation, or goes back; both are constants."""

    def __init__(self, middle: Rows, deviation: Rows, *, back: bool = False) -> None:
        super().__init__()
        self.register_buffer("middle", torch.from_numpy(middle))
        self.register_buffer("deviation", torch.from_numpy(deviation))
        self.back = back

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        middle, deviation = self.get_buffer("middle"), self.get_buffer("deviation")
        return rows * deviation + middle if self.back else (rows - middle) / deviation


class TableNetwork(nn.Module):
    """An encoder from rows to codes and a decoder from codes to rows, both in the rows' units.

    Args:
        middle: What counts as zero, for each column.
        deviation: What counts as one.
        recipe: Sizes.
    """

    def __init__(self, middle: Rows, deviation: Rows, recipe: TableRecipe) -> None:
        super().__init__()
        down = [len(middle), *recipe.widths, recipe.code]
        self.encoder = nn.Sequential(Scaled(middle, deviation), *_dense(down))
        self.decoder = nn.Sequential(*_dense(down[::-1]), Scaled(middle, deviation, back=True))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        reconstruction: torch.Tensor = self.decoder(self.encoder(rows))
        return reconstruction

    def layers(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Give what every hidden layer makes of *rows* after its activation, the code last."""
        found, values = [], rows
        for module in self.encoder:
            values = module(values)
            if isinstance(module, nn.SiLU):
                found.append(values)
        return [*found, values]


def _dense(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers with a SiLU between two of them: smooth, so that differences tell distances."""
    modules: list[nn.Module] = []
    for taken, given in pairwise(widths):
        modules += [nn.Linear(taken, given), nn.SiLU()]
    return modules[:-1]


def column_scale(rows: Rows) -> tuple[Rows, Rows]:
    """Give mean and deviation of every column, 1 for the deviation of one that does not move."""
    deviation = rows.std(axis=0, dtype=np.float64)
    deviation[deviation < SMALLEST_DEVIATION] = 1.0
    return rows.mean(axis=0, dtype=np.float64).astype(np.float32), deviation.astype(np.float32)


def fit_table(
    rows: Rows, recipe: TableRecipe, *, seed: int, scale: tuple[Rows, Rows] | None = None
) -> TableNetwork:
    """Train a network on normal rows; equal seeds give equal weights on equal machines.

    Args:
        rows: Normal rows, shape ``(rows, columns)``.
        recipe: Sizes and schedule.
        seed: Of weights, noise and the order of the rows.
        scale: Mean and deviation of every column, where they are not to be those of *rows*.
    """
    middle, deviation = scale or column_scale(rows)
    torch.manual_seed(seed)
    network = TableNetwork(middle, deviation, recipe)
    known, unit = torch.from_numpy(rows), torch.from_numpy(deviation)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, recipe.steps)
    for _ in range(recipe.steps):
        clean = known[torch.randint(len(known), (recipe.batch_rows,))]
        noisy = clean + recipe.noise * unit * torch.randn_like(clean)
        # in units of the deviation, so that no column drowns the others
        loss = mse_loss(network(noisy) / unit, clean / unit)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fall.step()
    return network.eval()
