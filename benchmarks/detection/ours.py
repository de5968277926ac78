"""Our detectors: one autoencoder a trial, and every measure that the service has for it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from benchmarks.detection.kim import DeepNetwork, DeepRecipe, fit_deep
from benchmarks.detection.sets import Rows, Trial
from service.scoring import catalogue
from service.scoring.catalogue import Evidence, Need
from service.scoring.measures import Scores
from service.specs import TensorSpec
from training.recipe import TableRecipe
from training.tables import TableNetwork, column_scale, fit_table

EVERYTHING: Final[frozenset[Need]] = frozenset({"reconstruction", "code", "layers"})

TABLE: Final = TableRecipe()

# pixels share a scale, so the deviation of the noise is one in the range of a pixel
DIGITS: Final = TableRecipe(
    widths=(256, 128), noise=0.6, steps=3000, batch_rows=128, learning_rate=1e-3
)

# a tenth of the published epochs: all of them would take ten digits seven hours of a core
PUBLISHED: Final = DeepRecipe(depth=10, code=20, epochs=20, batch_rows=256, learning_rate=1e-3)
MAX_TEACHERS: Final = 6000  # rows that measures learn from


@dataclass(frozen=True, slots=True)
class Detector:
    """A trained network with what the measures have learned.

    Attributes:
        network: The autoencoder.
        spec: Its input.
        learned: What each measure has learned from training rows.
    """

    network: TableNetwork | DeepNetwork
    spec: TensorSpec
    learned: dict[str, catalogue.Fitted | None]

    def scores(self, rows: Rows) -> dict[str, Scores]:
        """Score rows by every measure, as the service does."""
        seen = gather(self.network, rows)
        return {
            name: catalogue.score(name, seen, self.spec, fitted)
            for name, fitted in self.learned.items()
        }


def train_on_table(trial: Trial, *, seed: int) -> Detector:
    """Train on the rows of a table, every column in units of its own deviation."""
    _, deviation = column_scale(trial.train)
    spec = TensorSpec("float32", deviation.shape, scale=tuple(map(float, deviation)))
    return _detector(fit_table(trial.train, TABLE, seed=seed), spec, trial.train)


def train_on_digits(trial: Trial, *, seed: int) -> Detector:
    """Train on pictures laid flat, all pixels on one scale."""
    size = trial.train.shape[1]
    scale = np.zeros(size, np.float32), np.ones(size, np.float32)
    network = fit_table(trial.train, DIGITS, seed=seed, scale=scale)
    return _detector(network, _flat_pictures(size), trial.train)


def train_as_published(trial: Trial, *, seed: int) -> Detector:
    """Train the network of RaPP's experiments on pictures laid flat."""
    network = fit_deep(trial.train, PUBLISHED, seed=seed)
    return _detector(network, _flat_pictures(trial.train.shape[1]), trial.train)


def _flat_pictures(size: int) -> TensorSpec:
    return TensorSpec("float32", (size,), range=(0.0, 1.0))


def _detector(network: TableNetwork | DeepNetwork, spec: TensorSpec, rows: Rows) -> Detector:
    seen = gather(network, rows[:MAX_TEACHERS])
    names = catalogue.suitable(spec, EVERYTHING)
    return Detector(network, spec, {name: catalogue.fit(name, seen, spec) for name in names})


@torch.inference_mode()
def gather(network: TableNetwork | DeepNetwork, rows: Rows) -> Evidence:
    """Give all that the network says of rows, its own reconstruction encoded again included."""
    given = torch.from_numpy(rows)
    layers = network.layers(given)
    reconstruction = network.decoder(layers[-1])
    again = network.layers(reconstruction)
    return Evidence(
        rows,
        reconstruction.numpy(),
        layers[-1].numpy(),
        [layer.numpy() for layer in layers],
        [layer.numpy() for layer in again],
    )
