"""Pictures for people: a contact sheet of reconstructions and the course of the loss."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

GAP = 2  # pixels between pictures, as on the service's own contact sheets
COLUMNS = 16

Grey = npt.NDArray[np.uint8]


def contact_sheet(
    rows: npt.NDArray[np.float32],
    reconstructions: npt.NDArray[np.float32],
    *,
    columns: int = COLUMNS,
) -> Grey:
    """Lay out grey pictures in lines: originals, below them their reconstructions, and so on.

    Args:
        rows: Shape ``(n, 1, height, width)``, values in [0, 1]; *n* a multiple of *columns*.
        reconstructions: Same shape.
        columns: Pictures in a line.

    Returns:
        Grey values with black gaps between the pictures and a wider one between the pairs.
    """
    pairs = np.stack([_lines(rows, columns), _lines(reconstructions, columns)], axis=1)
    lines, _, _, height, width = pairs.shape
    step_x, step_y, step_pair = width + GAP, height + GAP, 2 * height + 3 * GAP
    sheet = np.zeros((lines * step_pair - 2 * GAP, columns * step_x - GAP), dtype=np.uint8)
    for line, kind, column in np.ndindex(pairs.shape[:3]):
        top, left = line * step_pair + kind * step_y, column * step_x
        sheet[top : top + height, left : left + width] = pairs[line, kind, column]
    return sheet


def _lines(rows: npt.NDArray[np.float32], columns: int) -> Grey:
    pixels = np.rint(255 * np.clip(rows[:, 0], 0, 1)).astype(np.uint8)
    return pixels.reshape(-1, columns, *pixels.shape[1:])


def save_contact_sheet(sheet: Grey, path: Path, *, zoom: int = 2) -> None:
    """Write a sheet as PNG, each pixel *zoom* times as large, for today's screens."""
    Image.fromarray(sheet.repeat(zoom, axis=0).repeat(zoom, axis=1)).save(path, optimize=True)


def save_loss_curve(
    train_loss: Sequence[float], validation_mse: Sequence[float], path: Path, *, title: str
) -> None:
    """Draw both losses by epoch; each has its own axis, for one is cross-entropy, one MSE."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and only this picture needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    epochs = range(1, len(train_loss) + 1)
    figure, left = plt.subplots(figsize=(7, 4), layout="constrained")
    right = left.twinx()
    lines = [
        *left.plot(epochs, train_loss, color="tab:blue", label="training: cross-entropy"),
        *right.plot(epochs, validation_mse, color="tab:orange", label="validation: MSE"),
    ]
    left.set(xlabel="epoch", ylabel="cross-entropy per pixel", title=title)
    right.set(ylabel="MSE per pixel", yscale="log")
    left.legend(handles=lines, loc="upper right")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
