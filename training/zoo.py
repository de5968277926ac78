"""Write ``docs/zoo.md``: every bundled model with its figures and pictures, from its card.

    python -m training.zoo

The page holds nothing that is not on a card, and a test sees that it is the one that these
lines write. Needs no PyTorch.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.repository.packages import Location, scan
from training.figures import AUROC, PCA, PRECISION, VALIDATION

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "zoo.md"

HEAD = """\
<!-- written by `python -m training.zoo` from the cards in models/; change those -->
# The bundled models

One of each kind of autoencoder, and two that are there to find anomalies, trained with the recipes
in [training](../training/README.md) on

{data}

Errors are MSE per pixel on the 10,000 official test images of MNIST (`mnist-anomaly`: on those of
its digit), and for `shuttle` per column in units of its deviation on test rows of its own; beside
each stands the error of principal components (PCA) with as many values as the code has. `make
evaluate` starts the service, recomputes every figure over HTTP and compares.

What test rows were used for: no weights were trained on them, and no epoch and no threshold was
chosen by them. But they were looked at while the recipes were made: the test errors of unfinished
runs; once which channels of the sparse code were silent on test digits, after which its penalty
was changed; the signal-to-noise ratio of `mnist-denoise` before it got a second stage; and
`mnist-dense-16`, `mnist-dense-32` and `mnist-denoise` were trained further after their test figures
had missed their targets. So the figures may be better by a trifle than those of digits that nobody
had looked at. What was looked at for the two detectors stands with them.

"""
MINUTE = 60
COLUMNS = ("model", "kind", "code", "MSE", "PCA", "weights", "graphs", "trained in", "its point")
PICTURES = {
    "reconstructions.png": (
        "Test digits, what the model makes of them and, in a third line, what its PCA twin does"
    ),
    "map.png": "The code of 4,000 test digits, coloured by a class that the model was never told",
    "units.png": "What each of the units at the middle of the picture adds to an empty one (white)"
    " or takes away (black), each on a scale of its own; a grey tile is a unit that is never used",
    "denoised.png": "Noisy digits, the model's answer, a 3x3 median filter's, the clean digits",
    "clusters.png": "A line for each cluster: test digits as they come",
    "scores.png": "Scores of the test rows by the default measure",
    "errors.png": "Errors of the columns, normal rows and anomalies, in units of the deviations",
    "loss.png": "The course of the loss",
}
# what a figure is called for people; those that are not here are in the table or not of interest
FIGURES = {
    "share_of_test_rows_above_threshold": "of normal test rows above the threshold for 1 %",
    "share_of_anomalies_above_threshold": "of anomalies above it",
    "share_of_code_values_active": "share of the code's values above 0.001 in magnitude",
    "active_code_values_a_row": "of a digit's code values are not zero",
    "psnr_db": "dB against the clean digits, noise in the input, the mean over the digits",
    "psnr_db_of_the_mean_error": "dB of the error averaged over all digits first",
    "psnr_db_of_the_noisy_input": "dB of the noisy input itself",
    "psnr_db_of_a_median_filter": "dB of a 3x3 median filter",
    "share_of_noisy_test_rows_above_threshold": "of noisy digits above the threshold",
    "clustering_accuracy": "accuracy of the clusters, each taken for one digit",
    "clustering_nmi": "their normalised mutual information with the digits",
    "clustering_accuracy_of_k_means_on_pixels": "accuracy of k-means on pixels",
    "clustering_nmi_of_k_means_on_pixels": "mutual information of k-means on pixels",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A bundled version: its card and the pictures beside it."""

    location: Location
    card: dict[str, Any]

    @property
    def quality(self) -> dict[str, Any]:
        quality: dict[str, Any] = self.card["quality"]
        return quality

    @property
    def graph_bytes(self) -> int:
        graphs = [name for name in self.card["graphs"].values() if name in self.card["files"]]
        return sum(self.card["files"][name]["bytes"] for name in graphs)

    @property
    def pca(self) -> str:
        pca = self.quality.get("pca")
        return f"{pca['mse']:.4f}" if pca else "-"


def read_models(models: Path) -> list[Model]:
    """Read every card, ordered by name and version."""
    found = sorted(scan(models), key=lambda location: (location.name, location.version))
    return [
        Model(location, json.loads((location.folder / "model.json").read_text(encoding="utf-8")))
        for location in found
    ]


def page(models: Sequence[Model]) -> str:
    """Write the whole page."""
    parts = [HEAD.format(data=_data(models)), *_table(models), "\n"]
    for model in models:
        parts += [f"{line}\n" for line in _section(model)]
    return "".join(parts)


def _data(models: Sequence[Model]) -> str:
    """Name every data set once, with its licence."""
    sets = [data for model in models for data in model.card["training"]["data"]]
    return "\n".join(dict.fromkeys(f"* {data['name']}, {data['licence']}" for data in sets))


def _table(models: Sequence[Model]) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    for model in models:
        yield f"| {' | '.join(_cells(model))} |\n"


def _cells(model: Model) -> Iterator[str]:
    card = model.card
    anchor = str(model.location).replace("/", "")
    yield f"[{model.location}](#{anchor})"
    yield card["architecture"]["kind"]
    yield f"{card['code']['shape'][0]:,}"
    yield f"{model.quality['mse']:.4f}"
    yield model.pca
    yield f"{card['architecture']['parameters']:,}"
    yield f"{model.graph_bytes / 1e6:.1f} MB"
    yield _time(card["training"]["seconds"])
    yield card["title"]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < MINUTE else f"{seconds / MINUTE:.0f} min"


def _section(model: Model) -> Iterator[str]:
    card, architecture = model.card, model.card["architecture"]
    yield f"## {model.location}\n"
    yield f"{card['description']}\n"
    yield f"* {_layers(architecture['layers'])}"
    yield f"* Loss: {architecture['loss']}. Regularisation: {architecture['regularisation']}."
    yield f"* {_choices(architecture['hyperparameters'])}"
    yield f"* Trained with `{card['training']['command']}` on {card['training']['machine']}."
    if card.get("layers"):
        yield f"* `encode?layer=` one of {', '.join(f'`{name}`' for name in card['layers'])}"
    yield from _figures(model.quality)
    yield from _measures(model.quality["figures"])
    for file, text in PICTURES.items():
        if (model.location.folder / file).exists():
            yield f"\n{text}:\n"
            yield f"![{card['title']}](../models/{model.location}/{file})"
    yield "\nNot for:\n"
    yield from (f"* {reason}" for reason in card["not_for"])
    yield ""


def _layers(layers: Sequence[dict[str, Any]]) -> str:
    halves = []
    for part in ("encoder", "decoder"):
        words = [_layer(layer) for layer in layers if layer["part"] == part]
        halves.append(f"{part}: {', '.join(words)}")
    return "; ".join(halves).capitalize()


def _layer(layer: dict[str, Any]) -> str:
    kernel = f" {'x'.join(map(str, layer['kernel']))}" if layer.get("kernel") else ""
    nodes = f" {layer['nodes']}" if layer.get("nodes") else ""
    activation = f" {layer['activation']}" if layer.get("activation") else ""
    return f"{layer['kind']}{kernel}{nodes}{activation}"


def _choices(hyperparameters: dict[str, Any]) -> str:
    words = [f"{name.replace('_', ' ')} {_words(value)}" for name, value in hyperparameters.items()]
    return "; ".join(words).capitalize()


def _words(value: object) -> str:
    """Write a choice, or the parts of one."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


def _figures(quality: dict[str, Any]) -> Iterator[str]:
    figures = quality["figures"]
    for name, text in FIGURES.items():
        if name in figures:
            yield f"* **{figures[name]:.4g}** {text}"
    for name, reason in figures.get("target_missed", {}).items():
        yield f"* Target missed, {name}: {reason}"
    if figures.get("tried"):
        yield f"* Tried in vain: {'; '.join(figures['tried'])}"
    by_seed = figures.get("test_mse_by_seed", {})
    for name, errors in by_seed.items():
        numbers = ", ".join(f"{error:.5f}" for error in errors)
        seeds = "seed" if len(errors) == 1 else f"{len(errors)} seeds"
        yield f"* test MSE of {name}, {seeds}: {numbers}"


def _measures(figures: dict[str, Any]) -> Iterator[str]:
    """Put what each measure of a detector reached beside that of principal components."""
    names = [name.removeprefix(AUROC) for name in figures if name.startswith(AUROC)]
    if not names:
        return
    kinds = {AUROC: "AUROC", PRECISION: "average precision"}
    if any(name.startswith(VALIDATION) for name in figures):
        kinds[VALIDATION] = "AUROC on validation rows"
    yield f"\n| measure | {' | '.join(kinds.values())} |\n|{'---|' * (len(kinds) + 1)}"
    for name in sorted(names, key=lambda name: -figures[f"{AUROC}{name}"]):
        cells = [_rate(figures.get(f"{kind}{name}")) for kind in kinds]
        title = {PCA: "PCA", figures["default_measure"]: f"`{name}`, the default"}
        yield f"| {title.get(name, f'`{name}`')} | {' | '.join(cells)} |"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def main() -> None:
    PAGE.write_text(page(read_models(ROOT / "models")), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
