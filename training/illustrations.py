"""Which pictures lie beside a model, by its kind; ``training.pictures`` draws them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.repository.packages import Location
from service.scoring.measures import feature_errors
from training import measures, pictures
from training.figures import DETECTING, NOISE_SEED, Examined
from training.loop import History
from training.recipe import Recipe
from training.rows import spread
from training.sources import source_of
from training.tables import STEPS_A_POINT, column_scale

Rows = npt.NDArray[np.float32]

SHEET_ROWS = 48
MAP_ROWS = 4000  # more points hide each other
TRIPLES = 32
OF_EACH_CLUSTER = 15
UNIT_SIDE = 12  # pixels around the middle that a unit reaches
LOGIT_MIN = 1e-3  # a unit that changes less is drawn as nothing
UNIT_QUANTILE = 0.999  # a value that a unit reaches when its stroke is there


def draw(recipe: Recipe, model: Examined, history: History, location: Location) -> None:
    """Put the pictures for people beside the package's files."""
    pictures.save_loss_curve(
        history.train_loss,
        history.validation_mse,
        location.folder / "loss.png",
        title=str(location),
        stages=history.stages,
        point="epoch" if recipe.table is None else f"{STEPS_A_POINT} steps",
        value=source_of(recipe).facts.unit,
    )
    if recipe.input.image is not None:
        _reconstructions(model, location.folder)
    if recipe.kind == DETECTING:
        _detection(recipe, model, location)
    FURTHER.get(model.architecture.kind, _nothing)(model, location.folder)
    if model.answers.codes(model.test[:1]).shape[1] == 2:  # noqa: PLR2004 - a map has two sides
        _map(model, location)


def _reconstructions(model: Examined, folder: Path) -> None:
    """Originals, what the model makes of them, and what its PCA twin does."""
    shown = spread(model.test, SHEET_ROWS)
    kinds = [shown, model.answers.reconstructions(shown)]
    components = model.answers.codes(shown).shape[1]
    if components < min(model.train[0].size, len(model.train)):
        twin = measures.fit_pca(model.train, components=components)
        kinds.append(twin.reconstruct(shown).reshape(shown.shape).astype(np.float32))
    sheet = pictures.contact_sheet(*kinds)
    pictures.save_contact_sheet(sheet, folder / "reconstructions.png")


def _nothing(model: Examined, folder: Path) -> None:
    """Most kinds have no picture of their own."""


def _map(model: Examined, location: Location) -> None:
    codes = model.answers.codes(spread(model.test, MAP_ROWS))
    labels = spread(model.labels, MAP_ROWS)
    pictures.save_map(codes, labels, location.folder / "map.png", title=f"{location}: test digits")


def _units(model: Examined, folder: Path) -> None:
    """What each of the units at the middle of the picture adds to an empty one, or takes away.

    Each on a scale of its own: grey is nothing, white is ink, black is less of it.
    """
    layers = model.architecture.layers
    grid_shape = next(layer.output_shape for layer in layers if layer.kind == "reshape")
    channels, height, width = (number or 1 for number in grid_shape)
    codes = model.answers.codes(model.test)
    grid = np.arange(codes.shape[1]).reshape(channels, height, width)
    places = grid[:, height // 2, width // 2]
    strengths = np.quantile(codes[:, grid], UNIT_QUANTILE, axis=(0, 2, 3))
    single = np.zeros((channels, codes.shape[1]), dtype=np.float32)
    single[np.arange(channels), places] = strengths
    # before the sigmoid, which hides what one unit alone adds to an empty picture
    added = _logits(model.answers.decoded(single)) - _logits(
        model.answers.decoded(np.zeros_like(single))
    )
    most = np.abs(added).max(axis=(1, 2, 3), keepdims=True)
    tiles = 0.5 + 0.5 * added / np.maximum(most, LOGIT_MIN)
    middle = slice(tiles.shape[-1] // 2 - UNIT_SIDE // 2, tiles.shape[-1] // 2 + UNIT_SIDE // 2)
    sheet = pictures.contact_sheet(tiles[:, :, middle, middle].astype(np.float32))
    pictures.save_contact_sheet(sheet, folder / "units.png", zoom=4)


def _logits(drawn: Rows) -> npt.NDArray[np.float64]:
    values = np.clip(drawn.astype(np.float64), 1e-12, 1 - 1e-7)
    logits: npt.NDArray[np.float64] = np.log(values) - np.log1p(-values)
    return logits


def _denoised(model: Examined, folder: Path) -> None:
    """Noisy digits, what the model makes of them, what a median filter does, and the clean ones."""
    clean = spread(model.test, TRIPLES)
    deviation = float(str(model.architecture.hyperparameters["noise_standard_deviation"]))
    noisy = measures.with_noise(clean, deviation, seed=NOISE_SEED)
    kinds = noisy, model.answers.reconstructions(noisy), measures.median_filtered(noisy), clean
    pictures.save_contact_sheet(pictures.contact_sheet(*kinds), folder / "denoised.png")


def _clusters(model: Examined, folder: Path) -> None:
    """A line for each cluster: test digits as they come, so that wrong ones are seen too."""
    clusters = model.answers.clusters(model.test)
    members = [
        spread(model.test[clusters == number], OF_EACH_CLUSTER)
        for number in range(int(clusters.max()) + 1)
    ]
    sheet = pictures.contact_sheet(np.concatenate(members), columns=OF_EACH_CLUSTER)
    pictures.save_contact_sheet(sheet, folder / "clusters.png")


def _detection(recipe: Recipe, model: Examined, location: Location) -> None:
    """Scores of both kinds of rows by the default measure, and where a table's errors lie."""
    anomalies = model.labels.astype(bool)
    title = f"{location}: test rows"
    scores = model.answers.scores(model.test)
    pictures.save_histogram(
        scores[~anomalies],
        scores[anomalies],
        model.answers.threshold,
        location.folder / "scores.png",
        title=title,
        measure=recipe.default_measure,
    )
    if recipe.input.features is None:
        return
    width = column_scale(model.train)[1]
    errors = feature_errors(model.test, model.answers.reconstructions(model.test), width=width)
    pictures.save_errors_by_column(
        errors[~anomalies],
        errors[anomalies],
        recipe.input.features,
        location.folder / "errors.png",
        title=title,
    )


FURTHER: Mapping[str, Callable[[Examined, Path], None]] = {
    "sparse": _units,
    "denoising": _denoised,
    "clustering": _clusters,
}
