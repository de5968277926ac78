import pytest

from service.api.models import _cost
from service.inference.cost import CostModel


def test_the_cost_on_the_card_is_what_was_measured_and_fitted():
    shown = _cost(CostModel((1, 8, 64), (1.25e-3, 3e-3, 17e-3)))

    assert (shown.rows, shown.seconds) == ([1, 8, 64], [1.25e-3, 3e-3, 17e-3])
    assert (shown.base_s, shown.row_s) == (1e-3, 0.25e-3)
    assert shown.rows_per_s == pytest.approx(64 / 17e-3, abs=0.1)


def test_a_useful_batch_is_no_larger_than_the_server_makes_it():
    rows_are_free = CostModel((1, 8, 64), (1e-3, 1e-3, 1e-3))
    rows_are_all = CostModel((1, 8, 64), (50e-3, 400e-3, 3200e-3))

    assert _cost(rows_are_free).useful_rows == 128
    assert _cost(rows_are_all).useful_rows == 1
