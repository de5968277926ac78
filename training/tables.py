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

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import mse_loss

from training.loop import History
from training.losses import blotted
from training.networks import Autoencoder
from training.recipe import TableRecipe

Rows = npt.NDArray[np.float32]
Scale = tuple[Rows, Rows]
"""What counts as zero and what counts as one, for each column."""

Watch = Callable[["TableNetwork", int, float], None]
"""Is told of the network after each step, of the step's number from one and of its loss."""

# a column that hardly moves is not blown up: what differs in it then counts as it is
SMALLEST_DEVIATION = 1e-6
LAST_RATE = 1e-2  # of the learning rate, to which it falls in a line
STEPS_A_POINT = 50  # of a curve of the loss


class Scaled(nn.Module):
    """Takes the mean off and divides by the deviation, or goes back; both are constants.

    Args:
        middle: What counts as zero.
        deviation: What counts as one.
        back: Goes back.
        reach: Deviations at which everything further is taken to be.
    """

    def __init__(
        self, middle: Rows, deviation: Rows, *, back: bool = False, reach: float | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("middle", torch.from_numpy(middle))
        self.register_buffer("deviation", torch.from_numpy(deviation))
        self.back, self.reach = back, reach

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        middle, deviation = self.get_buffer("middle"), self.get_buffer("deviation")
        if self.back:
            return rows * deviation + middle
        scaled = (rows - middle) / deviation
        return scaled if self.reach is None else scaled.clamp(-self.reach, self.reach)


class TableNetwork(Autoencoder):
    """An encoder from rows to codes and a decoder from codes to rows, both in the rows' units.

    Args:
        shape: Of a row; one of several axes is laid flat.
        recipe: Sizes.
        scale: Of every column; without one, nought and one, until weights are loaded.
    """

    gives_logits = False

    def __init__(
        self, shape: Sequence[int], recipe: TableRecipe, scale: Scale | None = None
    ) -> None:
        down = [prod(shape), *recipe.widths, recipe.code]
        before, after = _ends(shape, recipe, scale)
        encoder = nn.Sequential(*before, *_dense(down))
        super().__init__(encoder, nn.Sequential(*_dense(down[::-1]), *after))

    def layers(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Give what every hidden layer makes of *rows* after its activation, the code last."""
        found, values = [], rows
        for module in self.encoder:
            values = module(values)
            if isinstance(module, nn.SiLU):
                found.append(values)
        return [*found, values]


def _ends(
    shape: Sequence[int], recipe: TableRecipe, scale: Scale | None
) -> tuple[list[nn.Module], list[nn.Module]]:
    """Give what comes before the layers, and what comes after them."""
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    if recipe.scaled:
        middle, deviation = scale or _unscaled(shape)
        before = [Scaled(middle, deviation, reach=recipe.reach)]
        after = [Scaled(middle, deviation, back=True)]
    if len(shape) > 1:
        return [*before, nn.Flatten()], [nn.Unflatten(1, tuple(shape)), *after]
    return before, after


def _dense(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers with a SiLU between two of them: smooth, so that differences tell distances."""
    modules: list[nn.Module] = []
    for taken, given in pairwise(widths):
        modules += [nn.Linear(taken, given), nn.SiLU()]
    return modules[:-1]


def column_scale(rows: Rows) -> Scale:
    """Give mean and deviation of every column, 1 for the deviation of one that does not move."""
    deviation = rows.std(axis=0, dtype=np.float64)
    deviation[deviation < SMALLEST_DEVIATION] = 1.0
    return rows.mean(axis=0, dtype=np.float64).astype(np.float32), deviation.astype(np.float32)


def _unscaled(shape: Sequence[int]) -> Scale:
    return np.zeros(shape, np.float32), np.ones(shape, np.float32)


def fit_table(
    rows: Rows,
    recipe: TableRecipe,
    *,
    seed: int,
    scale: Scale | None = None,
    watch: Watch | None = None,
) -> TableNetwork:
    """Train a network on normal rows; equal seeds give equal weights on equal machines.

    Args:
        rows: Normal rows, along the first axis.
        recipe: Sizes and schedule.
        seed: Of weights, noise and the order of the rows.
        scale: Mean and deviation of every column, where they are not to be those of *rows*.
        watch: Looks on.
    """
    if scale is None:
        scale = column_scale(rows) if recipe.scaled else _unscaled(rows.shape[1:])
    torch.manual_seed(seed)
    network = TableNetwork(rows.shape[1:], recipe, scale)
    known, unit = torch.from_numpy(rows), torch.from_numpy(scale[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, recipe.steps)
    for step in range(recipe.steps):
        clean = known[torch.randint(len(known), (recipe.batch_rows,))]
        noisy = clean + recipe.noise * unit * torch.randn_like(clean)
        if recipe.blots is not None:
            noisy = blotted(noisy, recipe.blots)
        # in units of the deviation, so that no column drowns the others
        loss = mse_loss(network(noisy) / unit, clean / unit)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        fall.step()
        if watch is not None:
            watch(network, step + 1, loss.item())
    return network.eval()


class Curve:
    """Watches a training: the loss and, of rows that it does not learn, the error without noise.

    Both are in units of the columns' deviations, one point for every ``STEPS_A_POINT`` steps.

    Args:
        validation: Rows that are only looked at.
        unit: What counts as one, for each column.
    """

    def __init__(self, validation: Rows, unit: Rows) -> None:
        self.history = History()
        self._rows, self._unit = torch.from_numpy(validation), torch.from_numpy(unit)
        self._losses: list[float] = []
        self._start = time.perf_counter()

    def __call__(self, network: TableNetwork, step: int, loss: float) -> None:
        self._losses.append(loss)
        if step % STEPS_A_POINT:
            return
        with torch.inference_mode():
            error = mse_loss(network(self._rows) / self._unit, self._rows / self._unit).item()
        history = self.history
        history.train_loss.append(float(np.mean(self._losses)))
        history.validation_mse.append(error)
        history.kept_epoch = len(history.train_loss)
        history.stages = [history.kept_epoch]
        history.seconds = time.perf_counter() - self._start
        self._losses.clear()
