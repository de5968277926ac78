from dataclasses import astuple

import pytest

from benchmarks.further_models import (
    FIRST,
    Line,
    Start,
    a_further_one,
    fill,
    render,
    summarise,
)


def versions(repository):
    return {str(path.parent.relative_to(repository)) for path in repository.glob("*/*/model.json")}


def test_a_repository_has_as_many_versions_as_asked_for_and_the_convolutional_one_first(tmp_path):
    one, three = (versions(fill(tmp_path, count)) for count in (1, 3))

    assert one == {FIRST}
    assert len(three) == 3
    assert one < three


def test_more_versions_than_there_are_cannot_be_had(tmp_path):
    with pytest.raises(SystemExit, match="bundled versions, not 1000"):
        fill(tmp_path, 1000)


def test_each_figure_of_a_line_is_a_median_of_its_own():
    starts = [Start(1.0, 9.0, 5.0, 7.0), Start(2.0, 8.0, 6.0, 9.0), Start(3.0, 1.0, 1.0, 8.0)]

    assert summarise({("here", 4): starts}) == [Line("here", 4, Start(2.0, 8.0, 5.0, 8.0))]


def test_a_further_model_costs_the_slope_of_the_line_through_all():
    starts = {n: Start(1 + 0.1 * n, 2 + 0.2 * n, 100 + 6 * n, 120 + 7 * n) for n in (1, 4, 9)}

    slopes = a_further_one([Line("here", count, start) for count, start in starts.items()])

    assert astuple(slopes) == pytest.approx((0.1, 0.2, 6, 7))


def test_every_checkout_has_a_table_of_its_own_that_ends_with_a_further_model():
    lines = [Line(place, n, Start(n, n, n, n)) for place in ("here", "there") for n in (1, 3)]

    tables = render(lines).split("there\n")

    assert len(tables) == 2
    for table in tables:
        assert "| each further one | 1.000 | 1.000 | 1.0 | 1.0 |" in table
