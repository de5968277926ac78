"""From pictures to scores over HTTP: trained for a few steps, exported, packed, served, asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from training.evaluate import compare
from training.pipeline import Conditions, make_package, train
from training.recipe import Schedule, Stage
from training.recipes.mnist_dense import CODE_2
from training.rows import RowSets
from training.served import Served, described, service

DIGITS = Path(__file__).parents[1] / "e2e" / "digits.npy"
RECIPE = replace(
    CODE_2, stages=(Stage(Schedule(epochs=6, batch_rows=16, learning_rate=2e-3)),), rivals=None
)


@pytest.fixture(scope="module")
def rows():
    """A hundred digits, each at five places."""
    places = [(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2)]
    digits = np.load(DIGITS)[:, None].astype(np.float32) / 255
    moved = np.concatenate([np.roll(digits, place, axis=(2, 3)) for place in places])
    train, validation, calibration, test = np.split(moved, [200, 230, 400])
    labels = np.zeros(len(test), np.uint8)
    return RowSets(train, validation, calibration, test, labels)


def test_a_model_that_was_just_trained_is_served_with_the_figures_of_its_card(rows, tmp_path):
    checkpoint = train(RECIPE, rows, Conditions(threads=1))
    location = make_package(RECIPE, checkpoint, rows, tmp_path)

    with service(tmp_path) as address:
        served = Served(address, location.name, location.version)
        comparisons = compare(described(location.folder), served, rows)
        black, noise = np.zeros_like(rows.test[:1]), np.random.default_rng(0).random((1, 1, 28, 28))
        scores = served.scores(np.concatenate([black, noise.astype(np.float32)]))

    history = checkpoint.history
    assert history.train_loss[-1] < 0.8 * history.train_loss[0]
    assert len(comparisons) >= 4
    assert all(comparison.holds for comparison in comparisons)
    assert scores[1] > served.threshold > scores[0]
