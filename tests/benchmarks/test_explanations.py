"""What is done to rows before their explanations are asked for."""

import numpy as np

from benchmarks.explanations import DEVIATIONS, ROWS, SIDE, Finding, corrupted, inverted, render


def test_one_column_of_each_row_is_moved_by_its_deviations():
    deviations = np.array([1, 10, 100], np.float32)

    rows, columns = corrupted(np.zeros((7, 3), np.float32), deviations)

    assert len(rows) == ROWS
    assert set(columns) == {0, 1, 2}
    assert ((rows != 0).sum(axis=1) == 1).all()
    moved = rows[np.arange(ROWS), columns]
    assert (np.abs(moved) == DEVIATIONS * deviations[columns]).all()
    assert {-1, 1} == set(np.sign(moved))


def test_one_square_of_each_picture_is_inverted_within_its_borders():
    pictures = np.full((9, 1, 28, 28), 0.25, np.float32)

    rows, corners = inverted(pictures)

    assert (pictures == 0.25).all()
    assert ((rows == 0.75).sum(axis=(1, 2, 3)) == SIDE * SIDE).all()
    for picture, (top, left) in zip(rows, corners, strict=True):
        assert (picture[0, top : top + SIDE, left : left + SIDE] == 0.75).all()
    assert corners.min() == 0
    assert corners.max() == 28 - SIDE


def test_a_report_says_what_was_met():
    report = render([Finding("a/1", "rows", "moved", 0.95), Finding("b/1", "rows", "moved", 0.94)])

    assert "| a/1 | rows | moved | 95.0% | met |" in report
    assert "| b/1 | rows | moved | 94.0% |  |" in report
