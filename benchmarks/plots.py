"""Line charts as SVG text, both axes logarithmic; no library, so that a chart is a page of code."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

Point = tuple[float, float]

PANEL_WIDTH: Final = 250
PANEL_HEIGHT: Final = 190
LEFT: Final = 56
TOP: Final = 58
GAP: Final = 46
BOTTOM: Final = 42
# blue, vermilion, green, purple of Okabe and Ito: told apart by colour-blind readers, too
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
STYLE: Final = (
    "text{font:11px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:13px}"
    ".grid{stroke:#ddd}.line{fill:none;stroke-width:2}.end{text-anchor:end}"
    ".middle{text-anchor:middle}"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """A logarithmic axis: values from *low* to *high* lie between the pixels *start* and *end*."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = log10(value / self.low) / log10(self.high / self.low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Panel:
    """One small chart: a line of points (x, y) for each name."""

    title: str
    lines: Mapping[str, Sequence[Point]]


def decades(values: Iterable[float]) -> tuple[float, float]:
    """Give the powers of ten around all *values*, never the same one twice."""
    positive = [value for value in values if value > 0] or [1.0]
    low = floor(log10(min(positive)))
    high = max(ceil(log10(max(positive))), low + 1)
    return 10.0**low, 10.0**high


def chart(title: str, panels: Sequence[Panel], *, x_name: str, y_name: str) -> str:
    """Draw *panels* side by side with one y axis for all, so that heights can be compared."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    points = [point for panel in panels for line in panel.lines.values() for point in line]
    xs = sorted({x for x, _ in points}) or [1.0, 10.0]
    low, high = decades(y for _, y in points)
    width = LEFT + len(panels) * (PANEL_WIDTH + GAP)
    height = TOP + PANEL_HEIGHT + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _text(LEFT, 16, f"{title}: {y_name} by {x_name}", "title"),
        *_legend(names),
    ]
    for number, panel in enumerate(panels):
        left = LEFT + number * (PANEL_WIDTH + GAP)
        x = Scale(xs[0], max(xs[-1], xs[0] * 1.01), left, left + PANEL_WIDTH)
        y = Scale(low, high, TOP + PANEL_HEIGHT, TOP)
        parts += _axes(panel.title, xs, x, y)
        for name, line in panel.lines.items():
            parts += _line(line, x, y, COLOURS[names.index(name) % len(COLOURS)])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for number, name in enumerate(names):
        left = LEFT + number * 110
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<rect x="{left}" y="25" width="14" height="4" fill="{colour}"/>')
        parts.append(_text(left + 20, 31, name))
    return parts


def _axes(title: str, xs: Sequence[float], x: Scale, y: Scale) -> list[str]:
    parts = [_text(x.start, TOP - 8, title)]
    for power in range(round(log10(y.low)), round(log10(y.high)) + 1):
        at = y(10.0**power)
        parts.append(
            f'<line class="grid" x1="{x.start:.1f}" y1="{at:.1f}" x2="{x.end:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(_text(x.start - 6, at + 4, f"{10.0**power:,g}", "end"))
    parts += [_text(x(value), y.start + 18, f"{value:g}", "middle") for value in xs]
    return parts


def _line(line: Sequence[Point], x: Scale, y: Scale, colour: str) -> list[str]:
    places = [(x(a), y(b)) for a, b in line if b > 0]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dots = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
    return [f'<polyline class="line" stroke="{colour}" points="{path}"/>', *dots]


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{mark}>{escape(text)}</text>'
