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


def colours(path):
    with Image.open(path) as picture:
        return {colour for _, colour in picture.convert("RGB").getcolors() or []}


BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)  # matplotlib's first three


def test_a_histogram_has_a_line_for_each_kind_even_where_a_score_is_nought(tmp_path):
    pytest.importorskip("matplotlib")
    normal = np.array([0, 0.1, 0.2], np.float32)

    pictures.save_histogram(
        normal, normal * 9, 0.5, tmp_path / "scores.png", title="test", measure="mse"
    )

    assert {BLUE, ORANGE} <= colours(tmp_path / "scores.png")


def test_errors_of_columns_have_a_bar_for_each_kind(tmp_path):
    pytest.importorskip("matplotlib")
    errors = np.array([[1, 2], [3, 4]], np.float32)

    pictures.save_errors_by_column(
        errors, errors * 5, ["a", "b"], tmp_path / "errors.png", title="test"
    )

    assert {BLUE, ORANGE} <= colours(tmp_path / "errors.png")


def test_a_map_has_a_colour_for_each_class(tmp_path):
    pytest.importorskip("matplotlib")
    codes = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)

    pictures.save_map(codes, np.array([0, 1, 2], np.uint8), tmp_path / "map.png", title="test")

    assert {BLUE, ORANGE, GREEN} <= colours(tmp_path / "map.png")
