"""Small pictures of every kind, committed with their rows: the bits of each, or its refusal."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from service.bodies import picture
from service.errors import InvalidRowsError, MalformedBodyError
from service.specs import ImageSpec, TensorSpec
from tests.pictures import make

REFUSED = {
    "grey-16-bit-one-level-transparent.png": InvalidRowsError,
    "rgb-16-bit-one-colour-transparent.png": InvalidRowsError,
    "animated.png": InvalidRowsError,
    "animated.webp": InvalidRowsError,
    "cut-before-its-end.png": MalformedBodyError,
    "cut-before-its-end.jpg": MalformedBodyError,
    "with-another-inside-cut-before-its-end.jpg": MalformedBodyError,
    "cut-before-its-end.webp": MalformedBodyError,
}
FILES = sorted(path for path in make.FOLDER.iterdir() if path.suffix in {".png", ".jpg", ".webp"})
TAKEN = [path for path in FILES if path.name not in REFUSED]
MODES = ("L", "RGB")


def parse(path: Path, mode: Literal["L", "RGB"]) -> np.ndarray:
    image = ImageSpec(mode)
    spec = TensorSpec("float32", (image.channels, None, None), (0, 1), image)
    return picture.parse(path.read_bytes(), spec, budget=picture.PixelBudget(10_000))


def stored(path: Path) -> np.ndarray:
    planes: np.ndarray = np.load(path.with_name(f"{path.name}.npy"))
    return planes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", TAKEN, ids=lambda path: path.name)
def test_a_picture_has_the_bits_of_its_stored_planes(path, mode):
    wanted = stored(path)[:1] if mode == "L" else stored(path)[1:]

    rows = parse(path, mode)

    assert rows.dtype == np.float32
    assert rows.shape == (1, *wanted.shape)
    assert rows.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "error"), REFUSED.items(), ids=REFUSED)
def test_a_picture_without_a_defined_result_is_refused(name, error, mode):
    with pytest.raises(error):
        parse(make.FOLDER / name, mode)


@pytest.mark.parametrize("sample", [*make.pngs()], ids=lambda sample: sample.name)
def test_the_script_makes_the_committed_png(sample):
    path = make.FOLDER / sample.name
    planes = sample.planes()

    assert path.read_bytes() == sample.data
    if planes is not None:
        np.testing.assert_array_equal(stored(path), planes, strict=True)


def test_every_committed_file_is_one_of_the_scripts():
    names = {sample.name for sample in make.samples()}
    planes = {f"{sample.name}.npy" for sample in make.samples() if sample.name not in REFUSED}

    found = {path.name for path in make.FOLDER.iterdir() if path.suffix not in {".py", ""}}

    assert found == names | planes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_committed_file_is_small(path):
    assert path.stat().st_size < 2048
