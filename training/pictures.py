"""Pictures for people: contact sheets, the course of the loss, a code as a map.

They are small files, with a palette of few colours: they lie in the repository beside the models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.scoring.measures import Scores

GAP = 2  # pixels between pictures, as on the service's own contact sheets
COLUMNS = 16
GREYS = 16  # of a contact sheet; more make the file larger and the picture no better
COLOURS = 64  # of a diagram: ten classes and what lies between a line and the ground

BINS = 60  # of a histogram

Grey = npt.NDArray[np.uint8]
Colours = npt.NDArray[np.uint8]  # the last axis is red, green, blue
Rows = npt.NDArray[np.float32]


def contact_sheet(*kinds: Rows, columns: int = COLUMNS) -> Grey:
    """Lay out grey pictures in lines: one of each kind below the other, and so on.

    Args:
        kinds: Originals, their reconstructions and so on, each of shape
            ``(n, 1, height, width)`` with values in [0, 1]; *n* a multiple of *columns*.
        columns: Pictures in a line.

    Returns:
        Grey values with black gaps between the pictures and a wider one between the groups.
    """
    groups = np.stack([_lines(rows, columns) for rows in kinds], axis=1)
    lines, count, _, height, width = groups.shape
    step_x, step_y = width + GAP, height + GAP
    step_group = count * step_y + GAP
    sheet = np.zeros((lines * step_group - 2 * GAP, columns * step_x - GAP), dtype=np.uint8)
    for line, kind, column in np.ndindex(groups.shape[:3]):
        top, left = line * step_group + kind * step_y, column * step_x
        sheet[top : top + height, left : left + width] = groups[line, kind, column]
    return sheet


def _lines(rows: Rows, columns: int) -> Grey:
    pixels = np.rint(255 * np.clip(rows[:, 0], 0, 1)).astype(np.uint8)
    return pixels.reshape(-1, columns, *pixels.shape[1:])


def save_contact_sheet(sheet: Grey, path: Path, *, zoom: int = 2) -> None:
    """Write a sheet as PNG, each pixel *zoom* times as large, for today's screens."""
    steps = np.rint(sheet / 255 * (GREYS - 1)).astype(np.uint8)
    picture = Image.fromarray(steps.repeat(zoom, axis=0).repeat(zoom, axis=1))
    picture.putpalette(np.repeat(np.linspace(0, 255, GREYS).astype(np.uint8), 3).tobytes())
    picture.save(path, optimize=True, bits=4)


def save_loss_curve(
    train_loss: Sequence[float],
    validation_mse: Sequence[float],
    path: Path,
    *,
    title: str,
    stages: Sequence[int] = (),
    point: str = "epoch",
    value: str = "pixel",
) -> None:
    """Draw both losses by epoch; each has its own axis, for they are of different kinds.

    Args:
        train_loss: By epoch.
        validation_mse: By epoch.
        path: Where to.
        title: Above the diagram.
        stages: Epochs of each stage; between two of them stands a line.
        point: What one point of the curves stands for.
        value: What the error is a mean over.
    """
    plt = _pyplot()
    epochs = range(1, len(train_loss) + 1)
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    right = left.twinx()
    lines = [
        *left.plot(epochs, train_loss, color="tab:blue", label="training: loss"),
        *right.plot(epochs, validation_mse, color="tab:orange", label="validation: MSE"),
    ]
    for end in np.cumsum(stages)[:-1]:
        left.axvline(end + 0.5, color="grey", linewidth=0.8, linestyle=":")
    left.set(xlabel=point, ylabel="loss", title=title)
    right.set(ylabel=f"MSE per {value}", yscale="log")
    left.legend(handles=lines, loc="upper right")
    _save(figure, path)


def save_map(codes: Rows, labels: npt.NDArray[np.uint8], path: Path, *, title: str) -> None:
    """Draw codes of two values as points, coloured by a class that the model was never told."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    colours = plt.get_cmap("tab10")
    for label in range(int(labels.max()) + 1):
        points = codes[labels == label]
        axes.scatter(*points.T, s=5, color=colours(label), linewidths=0, label=str(label))
    # a few codes lie far out; on straight axes the others would all be one spot
    axes.set(xscale="symlog", yscale="symlog", title=title)
    axes.set(xlabel="first value of the code", ylabel="second value of the code")
    axes.legend(markerscale=3, title="digit", loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def save_histogram(
    normal: Scores, anomalous: Scores, threshold: float, path: Path, *, title: str, measure: str
) -> None:
    """Draw how often which score comes, as a share of each kind, on a scale of powers of ten."""
    plt = _pyplot()
    everything = np.maximum(np.concatenate([normal, anomalous]), np.finfo(np.float32).tiny)
    bins = np.geomspace(everything.min(), everything.max(), BINS + 1)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    kinds = [(normal, "normal", "tab:blue"), (anomalous, "anomalous", "tab:orange")]
    for scores, label, colour in kinds:
        heights = np.histogram(np.clip(scores, bins[0], bins[-1]), bins)[0] / len(scores)
        axes.stairs(heights, bins, label=label, color=colour, linewidth=1.5)
    axes.axvline(threshold, color="grey", linestyle=":", label="threshold for 1 %")
    axes.set(xscale="log", xlabel=f"score by {measure}", ylabel="share of rows", title=title)
    axes.legend(loc="upper right")
    _save(figure, path)


def save_errors_by_column(
    normal: Rows, anomalous: Rows, columns: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw the mean squared error of each column, of normal and of anomalous rows."""
    plt = _pyplot()
    places = np.arange(len(columns))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.bar(places - 0.2, normal.mean(axis=0), 0.4, color="tab:blue", label="normal")
    axes.bar(places + 0.2, anomalous.mean(axis=0), 0.4, color="tab:orange", label="anomalous")
    axes.set(yscale="log", ylabel="mean squared error", title=title)
    axes.set_xticks(places, columns)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, path)


def _pyplot() -> Any:  # noqa: ANN401 - a module
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and only diagrams need it

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401 - matplotlib is not there to serve
    figure.savefig(path, dpi=100, metadata={"Software": None})
    figure.clear()
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    _in_few_colours(pixels).save(path, optimize=True)


def _in_few_colours(pixels: Colours) -> Image.Image:
    """Keep the commonest colours as they are and give every other pixel the nearest of them.

    Pillow's own reduction takes means of colours, so that a point has another one than its class.
    """
    found, places, counts = np.unique(
        pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
    )
    kept = found[np.argsort(-counts, kind="stable")[:COLOURS]]
    distances = np.square(found[:, np.newaxis].astype(int) - kept.astype(int)).sum(axis=2)
    numbers = distances.argmin(axis=1).astype(np.uint8)
    picture = Image.fromarray(numbers[places.reshape(pixels.shape[:2])])
    picture.putpalette(kept.tobytes())
    return picture
