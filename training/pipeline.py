"""The two halves of a recipe: train to a checkpoint, and make a package of a checkpoint."""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from service.inference.graphs import RECONSTRUCTION, SCORE
from service.packaging import answers, calibrate_package, write_package
from service.repository.manifest import Description, FileRecord, Manifest, PcaTwin, Quality
from service.repository.packages import Location, Package
from service.scoring.calibration import DEFAULT_FALSE_POSITIVE_RATE
from service.scoring.measures import MSE
from training import card, evaluate, layers, pictures
from training.checkpoint import Checkpoint
from training.evaluate import Detection
from training.export import export
from training.loop import fit, make_reproducible
from training.recipe import Recipe, Schedule
from training.rows import Rows, RowSets

GOLDEN_ROWS = 8  # one small batch tells whether a graph still computes the same
SHEET_ROWS = 64
CALIBRATION_DATA = (
    "MNIST training images that were neither trained on nor used to choose the weights,"
    " in stretches of neighbours, so that most of their writers are strangers to the model"
)


def train(
    recipe: Recipe, rows: RowSets, schedule: Schedule, *, seed: int, threads: int, machine: str
) -> Checkpoint:
    """Train the network of *recipe*; calibration and test rows stay untouched.

    Args:
        recipe: What to train.
        rows: What to train it on.
        schedule: The recipe's own, or a shorter one to try things out.
        seed: Equal seeds and threads give equal weights on equal machines.
        threads: Of torch.
        machine: What this runs on, in words, for the card.
    """
    make_reproducible(seed, threads)
    network = recipe.network()
    history = fit(
        network,
        torch.from_numpy(rows.train),
        torch.from_numpy(rows.validation),
        schedule,
        seed=seed,
    )
    return Checkpoint(
        weights=network.state_dict(),
        history=history,
        seed=seed,
        epochs=schedule.epochs,
        threads=threads,
        machine=machine,
        software={"torch": version("torch"), "numpy": np.__version__},
    )


def make_package(recipe: Recipe, checkpoint: Checkpoint, rows: RowSets, models: Path) -> Location:
    """Export, calibrate and measure trained weights, and write all of it into *models*."""
    network = recipe.network()
    network.load_state_dict(checkpoint.weights)
    exported = export(network, rows.test)
    files = {card.ENCODER_FILE: exported.encoder, card.DECODER_FILE: exported.decoder}
    description = card.describe(
        recipe,
        checkpoint,
        layers=layers.describe(network, torch.from_numpy(rows.test[:1])),
        split=rows.sizes,
    )
    measured = measure(_bare(description, files), rows, parity=exported.max_difference)
    location = write_package(
        models,
        description.model_copy(update={"quality": measured}),
        files,
        golden_rows=_spread(rows.test, GOLDEN_ROWS),
        calibration_rows=rows.calibration,
        calibration_data=CALIBRATION_DATA,
    )
    draw(_bare(description, files), checkpoint, rows.test, location.folder)
    return location


def _bare(description: Description, files: dict[str, bytes]) -> Package:
    """Give a package that is only in memory, so that the server's own graphs can be measured."""
    records = {
        name: FileRecord(sha256=sha256(data).hexdigest(), bytes=len(data))
        for name, data in files.items()
    }
    return Package(Manifest(**dict(description), files=records), files)


def measure(package: Package, rows: RowSets, *, parity: float) -> Quality:
    """Measure a package on the test rows, with the threshold that it will serve with."""
    calibration = calibrate_package(package, rows.calibration)
    threshold = calibration.threshold(MSE, DEFAULT_FALSE_POSITIVE_RATE)
    scores = answers(package, rows.test)[SCORE]
    components = package.manifest.code.size if package.manifest.code else 0
    return card.quality(
        rows=len(rows.test),
        mse=evaluate.mean(scores),
        pca=PcaTwin(
            components=components,
            mse=evaluate.pca_mse(rows.train, rows.test, components=components),
        ),
        parity=parity,
        threshold=threshold,
        false_positives=evaluate.share_above(scores, threshold),
        photographs=_photographs(package, rows.photographs, threshold),
    )


def _photographs(package: Package, rows: Rows | None, threshold: float) -> Detection | None:
    if rows is None:
        return None
    return evaluate.detection(rows, answers(package, rows)[SCORE], threshold)


def draw(package: Package, checkpoint: Checkpoint, test: Rows, folder: Path) -> None:
    """Put the pictures for people beside the package's files."""
    shown = _spread(test, SHEET_ROWS)
    sheet = pictures.contact_sheet(shown, answers(package, shown)[RECONSTRUCTION])
    pictures.save_contact_sheet(sheet, folder / "reconstructions.png")
    history = checkpoint.history
    pictures.save_loss_curve(
        history.train_loss,
        history.validation_mse,
        folder / "loss.png",
        title=f"{package.manifest.name}, seed {checkpoint.seed}",
    )


def _spread(rows: Rows, count: int) -> Rows:
    """Take *count* rows evenly spaced, so that nobody has chosen them."""
    chosen: Rows = rows[np.linspace(0, len(rows) - 1, count).astype(int)]
    return chosen
