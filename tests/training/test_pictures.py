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


def test_a_saved_sheet_is_the_same_picture_enlarged_in_few_greys(tmp_path):
    sheet = np.array([[0, 17, 34], [170, 204, 250]], dtype=np.uint8)

    pictures.save_contact_sheet(sheet, tmp_path / "sheet.png", zoom=3)

    with Image.open(tmp_path / "sheet.png") as picture:
        assert (picture.size, picture.mode) == ((9, 6), "P")
        saved = np.asarray(picture.convert("L"))[::3, ::3]
    np.testing.assert_array_equal(saved, [[0, 17, 34], [170, 204, 255]])


def test_a_third_kind_lies_below_the_other_two():
    rows = np.ones((2, 1, 3, 3), dtype=np.float32)

    sheet = pictures.contact_sheet(rows * 0, rows * 0, rows, columns=2)

    assert sheet.shape == (3 * 3 + 2 * GAP, 2 * 3 + GAP)
    assert not sheet[: 6 + 2 * GAP].any()
    assert (sheet[6 + 2 * GAP :, :3] == 255).all()


def test_the_loss_curve_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")

    pictures.save_loss_curve(
        [0.3, 0.2], [0.02, 0.01], tmp_path / "loss.png", title="test", stages=[1, 1]
    )

    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.format == "PNG"


def test_a_map_has_a_colour_for_each_class(tmp_path):
    pytest.importorskip("matplotlib")
    codes = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)

    pictures.save_map(codes, np.array([0, 1, 2], np.uint8), tmp_path / "map.png", title="test")

    with Image.open(tmp_path / "map.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors() or []}
    # blue, orange and green of matplotlib's first three
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colours
