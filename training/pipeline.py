"""The two halves of a recipe: train to a checkpoint, and make a package of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from service.calibrating import Choice
from service.packaging import make_package as in_memory, write_package
from service.repository.packages import Location
from training import card, illustrations, measures
from training.answers import ERRORS_ALONE, Packed
from training.checkpoint import Checkpoint
from training.evaluate import examined
from training.export import export
from training.figures import DETECTING, figures
from training.inheritance import inherit
from training.loop import History, fit, make_reproducible, mse
from training.measures import Detection
from training.networks import Autoencoder
from training.recipe import Recipe, Stage, TableRecipe
from training.rows import Rows, RowSets, spread
from training.sources import source_of
from training.tables import STEPS_A_POINT, Curve, column_scale, fit_table

GOLDEN_ROWS = 8  # one small batch tells whether a graph still computes the same


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a training depends on beside its recipe and its rows.

    Attributes:
        seed: Equal seeds and threads give equal weights on equal machines.
        threads: Of torch.
        machine: What this runs on, in words, for the card.
        models: Where inherited layers come from.
        epochs: Instead of the recipe's number in each stage, to try things out; points of the
            curve of the loss where a recipe counts steps.
        store: Where the state is kept after each epoch.
        resume: Go on from that state.
    """

    seed: int = 0
    threads: int = 2
    machine: str = ""
    models: Path = Path("models")
    epochs: int | None = None
    store: Path | None = None
    resume: bool = False

    def stages(self, recipe: Recipe) -> Sequence[Stage]:
        """The recipe's stages, or short ones."""
        if self.epochs is None:
            return recipe.stages
        return [
            replace(stage, schedule=replace(stage.schedule, epochs=self.epochs))
            for stage in recipe.stages
        ]


def train(recipe: Recipe, rows: RowSets, conditions: Conditions) -> Checkpoint:
    """Train the network of *recipe* and its rivals; calibration rows stay untouched.

    Test rows are looked at only for what the card says of the rivals, and choose nothing.
    """
    network, history = _trained(recipe, rows, conditions)
    return Checkpoint(
        weights=network.state_dict(),
        history=history,
        seed=conditions.seed,
        epochs=conditions.epochs,
        threads=conditions.threads,
        machine=conditions.machine,
        software={"torch": version("torch"), "numpy": np.__version__},
        comparison=compare(recipe, rows, conditions, network),
    )


def _trained(recipe: Recipe, rows: RowSets, conditions: Conditions) -> tuple[Autoencoder, History]:
    make_reproducible(conditions.seed, conditions.threads)
    if recipe.table is not None:
        return _fitted(recipe.table, rows, conditions)
    network = recipe.network()
    if recipe.inherits is not None:
        inherit(network, recipe.inherits, conditions.models)
    history = fit(
        network,
        torch.from_numpy(rows.train),
        torch.from_numpy(rows.validation),
        conditions.stages(recipe),
        seed=conditions.seed,
        store=conditions.store,
        resume=conditions.resume,
    )
    return network, history


def _fitted(
    table: TableRecipe, rows: RowSets, conditions: Conditions
) -> tuple[Autoencoder, History]:
    """Train in steps; that takes seconds, so nothing is stored that one could go on from."""
    if conditions.epochs is not None:
        table = replace(table, steps=conditions.epochs * STEPS_A_POINT)
    unit = column_scale(rows.train)[1] if table.scaled else np.ones_like(rows.train[0])
    curve = Curve(rows.validation, unit)
    network = fit_table(rows.train, table, seed=conditions.seed, watch=curve)
    return network, curve.history


def compare(
    recipe: Recipe, rows: RowSets, conditions: Conditions, network: Autoencoder
) -> dict[str, list[float]]:
    """Give the test MSE of a recipe and of its rivals for each of its seeds.

    Args:
        recipe: With its rivals.
        rows: The same for all.
        conditions: The same for all, but for the seed.
        network: What the recipe has given already, with the seed of *conditions*.
    """
    test = torch.from_numpy(rows.test)
    found: dict[str, list[float]] = {}
    for name, rival in {"this recipe": recipe, **recipe.rivals}.items() if recipe.rivals else []:
        found[name] = []
        for seed in recipe.rival_seeds:
            if rival is recipe and seed == conditions.seed:
                trained = network
            else:
                alone = replace(conditions, seed=seed, store=None, resume=False)
                trained, _ = _trained(rival, rows, alone)
            found[name].append(mse(trained, test))
    return found


def make_package(recipe: Recipe, checkpoint: Checkpoint, rows: RowSets, models: Path) -> Location:
    """Export, calibrate and measure trained weights, and write all of it into *models*."""
    network = recipe.network()
    network.load_state_dict(checkpoint.weights)
    exported = export(network, rows.test, unit=_unit(recipe, rows))
    files = {card.ENCODER_FILE: exported.encoder, card.DECODER_FILE: exported.decoder}
    split = _split(recipe, rows)
    description = card.describe(recipe, checkpoint, layers=exported.layers, split=split)
    choice = Choice(default=recipe.default_measure)
    # what is no detector has figures of its error alone
    judged = choice if recipe.kind == DETECTING else ERRORS_ALONE
    answers = Packed(in_memory(description, files), rows.calibration, judged)
    about = examined(description, answers, rows)
    measured = card.quality(
        recipe,
        figures(about),
        rows=len(rows.test),
        parity=exported.max_difference,
        photographs=_photographs(answers, rows.photographs),
        comparison=checkpoint.comparison,
    )
    location = write_package(
        models,
        description.model_copy(update={"quality": measured}),
        files,
        golden_rows=spread(rows.test, GOLDEN_ROWS),
        calibration_rows=rows.calibration,
        calibration_data=source_of(recipe).facts.calibration,
        calibration_choice=choice,
    )
    illustrations.draw(recipe, about, checkpoint.history, location)
    return location


def _split(recipe: Recipe, rows: RowSets) -> dict[str, int]:
    """Count the rows of each use."""
    is_detector = recipe.kind == DETECTING
    return rows.sizes | ({"anomalies_in_test": int(rows.labels.sum())} if is_detector else {})


def _unit(recipe: Recipe, rows: RowSets) -> Rows | None:
    """What roundings are measured in, where columns have units of their own."""
    is_scaled = recipe.table is not None and recipe.table.scaled
    return column_scale(rows.train)[1] if is_scaled else None


def _photographs(answers: Packed, rows: Rows | None) -> Detection | None:
    if rows is None:
        return None
    return measures.detection(rows, answers.scores(rows), answers.threshold)
