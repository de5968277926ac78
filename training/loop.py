"""The one training loop: rows in, the weights of the best epoch out.

Adam, a learning rate that falls linearly to zero, binary cross-entropy on logits: with a
sigmoid and squared error a convolutional decoder may die in its first steps and give black
pictures for ever, with cross-entropy it does not.
"""

import copy
import random
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from tqdm import tqdm

from training.networks import Autoencoder
from training.recipe import Schedule

EVALUATION_ROWS = 512  # forward passes are fastest while a batch fits the cache

Weights = dict[str, torch.Tensor]


@dataclass(slots=True)
class History:
    """What the loss did.

    Attributes:
        train_loss: Mean cross-entropy per pixel of each epoch, while the weights moved.
        validation_mse: MSE per pixel after each epoch.
        seconds: Wall time of the whole run.
    """

    train_loss: list[float] = field(default_factory=list)
    validation_mse: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, counted from one."""
        return 1 + int(np.argmin(self.validation_mse))


def make_reproducible(seed: int, threads: int | None) -> None:
    """Seed every generator and forbid kernels whose sums depend on timing.

    The order of a parallel sum depends on the number of *threads*: weights that are equal to
    the bit need the same number, the same torch and the same kind of processor. Elsewhere the
    figures come out alike and the bits do not.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - for libraries that still draw from it
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    if threads is not None:
        torch.set_num_threads(threads)


def fit(
    network: Autoencoder,
    train: torch.Tensor,
    validation: torch.Tensor,
    schedule: Schedule,
    *,
    seed: int,
) -> History:
    """Train *network* in place and leave it with the weights of its best epoch.

    Args:
        network: Freshly initialised.
        train: Rows in [0, 1], batch first.
        validation: Rows that only choose the epoch.
        schedule: Epochs, batch size, learning rate.
        seed: Of the order of the rows.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    steps = schedule.epochs * -(-len(train) // schedule.batch_rows)
    fall = torch.optim.lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=1e-3, total_iters=steps
    )
    history, best, start = History(), copy.deepcopy(network.state_dict()), time.perf_counter()
    with tqdm(total=steps, unit="step", desc="training", mininterval=1.0) as progress:
        for _ in range(schedule.epochs):
            losses = []
            order = torch.randperm(len(train), generator=generator)
            for rows in order.split(schedule.batch_rows):  # type: ignore[no-untyped-call]
                losses.append(_step(network, optimizer, train[rows]))
                fall.step()
                progress.update()
            history.train_loss.append(float(np.mean(losses)))
            history.validation_mse.append(mse(network, validation))
            if history.best_epoch == len(history.validation_mse):
                best = copy.deepcopy(network.state_dict())
            progress.set_postfix(validation_mse=f"{history.validation_mse[-1]:.5f}")
    network.load_state_dict(best)
    history.seconds = time.perf_counter() - start
    return history


def _step(network: Autoencoder, optimizer: torch.optim.Optimizer, rows: torch.Tensor) -> float:
    network.train()
    loss = binary_cross_entropy_with_logits(network(rows), rows)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def mse(network: Autoencoder, rows: torch.Tensor) -> float:
    """Mean squared error per pixel; for choosing weights, the published figure is another."""
    network.eval()
    total = 0.0
    for part in rows.split(EVALUATION_ROWS):  # type: ignore[no-untyped-call]
        total += mse_loss(network(part).sigmoid(), part, reduction="sum").item()
    return total / rows.numel()
