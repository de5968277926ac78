"""Grey cut-outs of photographs: rows that look like digits in shape and in nothing else.

Any folder of photographs will do. The figures of the bundled models come from the training
half of the Berkeley Segmentation Data Set 500 (Arbelaez et al., TPAMI 2011; for research and
education): https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

DATA = "photographs given with --photographs; for the bundled weights BSDS500, training half"
SUFFIXES = {".jpg", ".jpeg", ".png"}


def cut_outs(folder: Path, *, rows: int, side: int, seed: int) -> npt.NDArray[np.uint8]:
    """Cut squares at random places out of random photographs.

    Args:
        folder: Photographs, each at least *side* pixels high and wide.
        rows: How many squares.
        side: Their height and width.
        seed: Equal folders and seeds give equal squares.

    Returns:
        Grey values, shape ``(rows, side, side)``.

    Raises:
        ValueError: The folder has no photographs.
    """
    photographs = [_grey(path) for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    if not photographs:
        raise ValueError(f"no photographs in {folder.name}")
    random = np.random.default_rng(seed)
    return np.stack(
        [
            _cut_out(photographs[photograph], side, random)
            for photograph in random.integers(len(photographs), size=rows)
        ]
    )


def _grey(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def _cut_out(
    photograph: npt.NDArray[np.uint8], side: int, random: np.random.Generator
) -> npt.NDArray[np.uint8]:
    top = random.integers(photograph.shape[0] - side + 1)
    left = random.integers(photograph.shape[1] - side + 1)
    return photograph[top : top + side, left : left + side]
