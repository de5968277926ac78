"""The report on the domain guard: targets beside what was found."""

import numpy as np
from PIL import Image

from benchmarks.domain_guard import Finding, kinds, render


def test_digits_should_pass_and_everything_else_should_not():
    assert Finding("digits", 9, {"a": 0.0, "b": 0.02}, is_digit=True).is_met
    assert not Finding("digits", 9, {"a": 0.0, "b": 0.021}, is_digit=True).is_met
    assert Finding("noise", 9, {"a": 1.0, "b": 0.99}, is_digit=False).is_met
    assert not Finding("noise", 9, {"a": 1.0, "b": 0.98}, is_digit=False).is_met


def test_a_report_names_what_was_met_and_what_was_missed():
    report = render(
        [
            Finding("digits", 10, {"a/1": 0.0127, "b/2": 0.001}, is_digit=True),
            Finding("noise", 7, {"a/1": 0.5, "b/2": 1.0}, is_digit=False),
        ]
    )

    assert "| rows | how many | a/1 | b/2 |" in report
    assert "| digits | 10 | 1.27% | 0.10% | met |" in report
    assert "| noise | 7 | 50.00% | 100.00% | missed |" in report


def test_every_kind_has_rows_that_the_model_takes(tmp_path):
    for half in ("train", "val"):
        (tmp_path / half).mkdir()
        Image.new("L", (40, 40), 99).save(tmp_path / half / "one.png")
    digits = np.random.default_rng(0).random((2000, 1, 28, 28), np.float32)

    found = list(kinds(digits, tmp_path))

    assert [is_digit for _, _, is_digit in found] == [True] + [False] * 10
    for _, rows, _ in found:
        assert rows.dtype == np.float32
        assert rows.shape[1:] == (1, 28, 28)
        assert rows.min() >= 0
        assert rows.max() <= 1
