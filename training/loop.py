"""The one training loop: rows in, weights out.

Adam and a learning rate that falls linearly to a thousandth. The loss of the pixels is mostly
binary cross-entropy on logits: with a sigmoid and squared error a convolutional decoder may die
in its first steps and give black pictures for ever, with cross-entropy it does not.

After each epoch everything that the next one depends on can be stored, so that a training that
was cut off goes on and ends with the same bits as one that was not.
"""

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import mse_loss
from tqdm import tqdm

from training.clusters import find_clusters
from training.k_means import settle
from training.losses import loss, noisy
from training.networks import Autoencoder
from training.recipe import Schedule, Stage

EVALUATION_ROWS = 512  # forward passes are fastest while a batch fits the cache
EVALUATION_SEED = 1  # the same noise in each epoch, so that epochs can be compared

Weights = dict[str, torch.Tensor]


@dataclass(slots=True)
class History:
    """What the loss did.

    Attributes:
        train_loss: Mean loss of each epoch, while the weights moved.
        validation_mse: MSE per pixel after each epoch.
        stages: Epochs that each stage had.
        kept_epoch: The epoch whose weights are kept, counted from one.
        seconds: Wall time of the whole run.
    """

    train_loss: list[float] = field(default_factory=list)
    validation_mse: list[float] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    kept_epoch: int = 0
    seconds: float = 0.0


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
    stages: Sequence[Stage],
    *,
    seed: int,
    store: Path | None = None,
    resume: bool = False,
) -> History:
    """Train *network* in place and leave it with the weights that the last stage keeps.

    Args:
        network: Freshly initialised; parameters that need no gradient stay as they are.
        train: Rows in [0, 1], batch first.
        validation: Rows that only choose the epoch.
        stages: What to train for, one after the other.
        seed: Of the order of the rows, of noise and distortions.
        store: Where the state is kept after each epoch.
        resume: Go on from that state, where there is one.
    """
    run = _Run(network, train, validation, torch.Generator().manual_seed(seed), store)
    stored = _stored(store) if resume else None
    first = stored["stage"] if stored else 0
    for number, stage in enumerate(stages):
        if number >= first:
            run.stage(number, stage, stored if number == first else None)
    return run.history


def _stored(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


class _Run:
    """A training under way."""

    def __init__(
        self,
        network: Autoencoder,
        train: torch.Tensor,
        validation: torch.Tensor,
        generator: torch.Generator,
        store: Path | None,
    ) -> None:
        self.history = History()
        self._network, self._train, self._validation = network, train, validation
        self._generator, self._store = generator, store

    def stage(self, number: int, stage: Stage, stored: dict[str, Any] | None) -> None:
        """Train for one objective, from its first epoch or from a stored one."""
        clusters = self._clusters(stage)
        state = _State(self._network, stage.schedule, len(self._train))
        if stored is not None:
            self._take_up(state, stored)
        steps = stage.schedule.epochs * state.steps_an_epoch
        with tqdm(total=steps, unit="step", desc=f"stage {number + 1}", mininterval=1) as progress:
            progress.update(state.epochs * state.steps_an_epoch)
            while not state.is_over:
                self._epoch(stage, state, clusters, progress)
                self._keep(number, state)
        self._network.load_state_dict(state.kept)
        if clusters is not None:
            self._settle_centres()
        self.history.kept_epoch = len(self.history.train_loss) - state.epochs + state.kept_epoch
        self.history.stages.append(state.epochs)

    def _clusters(self, stage: Stage) -> torch.Tensor | None:
        """Find the clusters of the training rows, which depend on nothing that is trained."""
        if not stage.objective.clusters:
            return None
        start = time.perf_counter()
        seed = self._generator.initial_seed()
        found = find_clusters(self._train, stage.objective.clusters, seed=seed)
        self.history.seconds += time.perf_counter() - start
        return torch.from_numpy(found)

    def _epoch(
        self,
        stage: Stage,
        state: "_State",
        clusters: torch.Tensor | None,
        progress: "tqdm[Any]",
    ) -> None:
        start, losses = time.perf_counter(), []
        order = torch.randperm(len(self._train), generator=self._generator)
        self._network.train()
        for chosen in order.split(stage.schedule.batch_rows):  # type: ignore[no-untyped-call]
            theirs = None if clusters is None else clusters[chosen]
            rows = self._train[chosen]
            value = loss(self._network, stage.objective, rows, self._generator, theirs)
            losses.append(state.step(value))
            progress.update()
        error = mse(self._network, self._validation, noise=stage.objective.noise)
        state.end_epoch(error)
        self.history.train_loss.append(float(np.mean(losses)))
        self.history.validation_mse.append(error)
        self.history.seconds += time.perf_counter() - start
        progress.set_postfix(validation_mse=f"{error:.5f}")

    def _settle_centres(self) -> None:
        """Bring the centres to where k-means leaves them, for they were trained with the code."""
        assert self._network.centres is not None  # noqa: S101 - for the type checker
        codes = _codes(self._network, self._train).numpy()
        settled = settle(codes, self._network.centres.detach().numpy())
        self._network.centres.data.copy_(torch.from_numpy(settled))

    def _keep(self, number: int, state: "_State") -> None:
        """Store all that the next epoch depends on; whole or not at all."""
        if self._store is None:
            return
        self._store.parent.mkdir(parents=True, exist_ok=True)
        content = state.content() | {
            "stage": number,
            "generator": self._generator.get_state(),
            "history": asdict(self.history),
        }
        made = self._store.with_suffix(".new")
        torch.save(content, made)
        made.replace(self._store)

    def _take_up(self, state: "_State", stored: dict[str, Any]) -> None:
        state.take_up(stored)
        self._generator.set_state(stored["generator"])
        self.history = History(**stored["history"])


class _State:
    """Weights, optimizer and learning rate of a stage, and which epoch was the best."""

    def __init__(self, network: Autoencoder, schedule: Schedule, rows: int) -> None:
        self.steps_an_epoch = -(-rows // schedule.batch_rows)
        self.epochs = self.kept_epoch = 0
        self.kept: Weights = copy.deepcopy(network.state_dict())
        self._best = float("inf")
        self._network, self._schedule = network, schedule
        trained = [weights for weights in network.parameters() if weights.requires_grad]
        self._optimizer = torch.optim.Adam(trained, lr=schedule.learning_rate, fused=True)
        self._fall = torch.optim.lr_scheduler.LinearLR(
            self._optimizer,
            start_factor=1.0,
            end_factor=1e-3,
            total_iters=schedule.epochs * self.steps_an_epoch,
        )

    @property
    def is_over(self) -> bool:
        waited = self.epochs - self.kept_epoch
        return self.epochs >= self._schedule.epochs or waited >= self._schedule.patience

    def step(self, value: torch.Tensor) -> float:
        self._optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._fall.step()
        return value.item()

    def end_epoch(self, error: float) -> None:
        self.epochs += 1
        if error < self._best or self._schedule.keep == "last":
            self._best, self.kept_epoch = error, self.epochs
            self.kept = copy.deepcopy(self._network.state_dict())

    def content(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "kept_epoch": self.kept_epoch,
            "best": self._best,
            "kept": self.kept,
            "weights": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "fall": self._fall.state_dict(),
        }

    def take_up(self, stored: dict[str, Any]) -> None:
        self.epochs, self.kept_epoch = stored["epochs"], stored["kept_epoch"]
        self._best, self.kept = stored["best"], stored["kept"]
        self._network.load_state_dict(stored["weights"])
        self._optimizer.load_state_dict(stored["optimizer"])
        self._fall.load_state_dict(stored["fall"])


@torch.inference_mode()
def _codes(network: Autoencoder, rows: torch.Tensor) -> torch.Tensor:
    network.eval()
    parts = rows.split(EVALUATION_ROWS)  # type: ignore[no-untyped-call]
    return torch.cat([network.encoder(part) for part in parts]).clone()


@torch.inference_mode()
def mse(network: Autoencoder, rows: torch.Tensor, *, noise: float = 0.0) -> float:
    """Mean squared error per pixel; for choosing weights, the published figure is another.

    Args:
        network: What is measured.
        rows: Clean pictures.
        noise: What is added to them on their way in, as in *Objective*.
    """
    network.eval()
    generator, total = torch.Generator().manual_seed(EVALUATION_SEED), 0.0
    for part in rows.split(EVALUATION_ROWS):  # type: ignore[no-untyped-call]
        given = network(noisy(part, noise, generator)).sigmoid()
        total += mse_loss(given, part, reduction="sum").item()
    return total / rows.numel()
