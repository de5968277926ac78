import numpy as np
import pytest
from PIL import Image

from training.data.photographs import cut_outs


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(2)
    for name, shape in [("a.jpg", (40, 30, 3)), ("b.png", (28, 28, 3))]:
        Image.fromarray(random.integers(256, size=shape, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a photograph")
    return tmp_path


def test_cut_outs_are_grey_squares_of_the_side_asked_for(folder):
    squares = cut_outs(folder, rows=5, side=28, seed=0)

    assert squares.shape == (5, 28, 28)
    assert squares.dtype == np.uint8


def test_equal_seeds_give_equal_squares_and_others_do_not(folder):
    first, again, other = (cut_outs(folder, rows=20, side=9, seed=seed) for seed in [3, 3, 4])

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no photographs"):
        cut_outs(tmp_path, rows=1, side=8, seed=0)
