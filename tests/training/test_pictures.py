import numpy as np
import pytest
from PIL import Image

from training import pictures
from training.pictures import GAP


def test_each_reconstruction_lies_below_its_original():
    rows = np.linspace(0.1, 0.6, 6, dtype=np.float32).reshape(6, 1, 1, 1)
    rows = np.broadcast_to(rows, (6, 1, 4, 5))

    sheet = pictures.contact_sheet(rows, rows + 0.4, columns=3)

    # two pairs of lines: 4 lines of 4 pixels, two small gaps and a double one
    assert sheet.shape == (4 * 4 + 2 * GAP + 2 * GAP, 3 * 5 + 2 * GAP)
    originals = sheet[[0, 0, 0, 14, 14, 14], [0, 7, 14] * 2]
    below = sheet[[6, 6, 6, 20, 20, 20], [0, 7, 14] * 2]
    np.testing.assert_array_equal(originals, np.rint(255 * rows[:, 0, 0, 0]))
    np.testing.assert_array_equal(below, np.rint(255 * (rows[:, 0, 0, 0] + 0.4)))


def test_gaps_are_black_and_values_outside_the_range_are_clipped():
    rows = np.full((4, 1, 3, 3), 7, dtype=np.float32)

    sheet = pictures.contact_sheet(rows, rows, columns=2)

    assert not sheet[3 : 3 + GAP].any()
    assert not sheet[:, 3 : 3 + GAP].any()
    assert sheet.max() == 255


def test_a_saved_sheet_is_the_same_picture_enlarged(tmp_path):
    sheet = np.arange(6, dtype=np.uint8).reshape(2, 3)

    pictures.save_contact_sheet(sheet, tmp_path / "sheet.png", zoom=3)

    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (9, 6)
        np.testing.assert_array_equal(np.asarray(picture)[::3, ::3], sheet)


def test_the_loss_curve_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")

    pictures.save_loss_curve([0.3, 0.2], [0.02, 0.01], tmp_path / "loss.png", title="test")

    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG"
