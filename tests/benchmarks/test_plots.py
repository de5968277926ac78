"""The geometry of the charts."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.plots import LEFT, PANEL_HEIGHT, PANEL_WIDTH, TOP, Panel, Scale, chart, decades

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels: Panel) -> ET.Element:
    return ET.fromstring(chart("a < b", list(panels), x_name="x", y_name="y"))  # noqa: S314


def points(root: ET.Element) -> list[list[tuple[float, ...]]]:
    lines = root.findall(f"{SVG}polyline")
    return [
        [
            tuple(float(number) for number in pair.split(","))
            for pair in line.attrib["points"].split()
        ]
        for line in lines
    ]


def test_a_decade_is_half_of_two():
    scale = Scale(1, 100, 0, 200)

    assert [scale(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])


def test_an_axis_may_run_upwards():
    assert Scale(1, 100, 200, 0)(10) == pytest.approx(100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([20, 700], (10, 1000)),
        ([10, 10], (10, 100)),
        ([0.5], (0.1, 1)),
        ([], (1, 10)),
        ([0, 5], (1, 10)),
    ],
)
def test_an_axis_spans_whole_decades(values, expected):
    assert decades(values) == pytest.approx(expected)


def test_the_first_and_the_last_point_lie_on_the_edges():
    (line,) = points(drawn(Panel("p", {"a": [(1, 10), (100, 1000)]})))

    assert line == [(LEFT, TOP + PANEL_HEIGHT), (LEFT + PANEL_WIDTH, TOP)]


def test_panels_share_the_y_axis():
    """The same value has the same height, though the panels hold different ranges."""
    left = Panel("l", {"a": [(1, 10), (10, 1000)]})
    right = Panel("r", {"a": [(1, 10), (10, 20)]})

    first, second = points(drawn(left, right))
    assert first[0][1] == second[0][1]
    assert second[0][0] > first[1][0]


def test_everything_lies_inside_the_picture():
    root = drawn(Panel("l", {"a": [(1, 3), (128, 999)]}), Panel("r", {"b": [(8, 70_000)]}))
    width, height = (float(root.attrib[name]) for name in ("width", "height"))

    for line in points(root):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in line)
    assert all(0 <= float(text.attrib["x"]) <= width for text in root.findall(f"{SVG}text"))


def test_a_name_has_one_colour_in_all_panels():
    root = drawn(Panel("l", {"a": [(1, 2)], "b": [(1, 3)]}), Panel("r", {"b": [(1, 2)]}))
    colours = [line.attrib["stroke"] for line in root.findall(f"{SVG}polyline")]

    assert colours[0] != colours[1] == colours[2]


def test_a_value_of_nothing_has_no_place_on_a_logarithmic_axis():
    assert points(drawn(Panel("p", {"a": [(1, 0), (2, 10)]})))[0][0][0] == LEFT + PANEL_WIDTH


def test_text_is_escaped():
    assert drawn(Panel("p", {})).attrib["aria-label"] == "a < b"
