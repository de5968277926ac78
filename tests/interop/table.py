"""The table of docs/exporting.md: how far the service's answers are from the framework's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.interop.case import TOLERANCE, Case
from tests.interop.comparing import OPERATIONS

HEAD: Final = f"| model | exported by | {' | '.join(OPERATIONS)} |"


@dataclass(frozen=True)
class Row:
    """A model, and the largest difference of each of its operations."""

    case: Case
    differences: Mapping[str, float]


def markdown(rows: Iterable[Row]) -> str:
    """Write the table, with a line below it for each tolerance that is not the usual one."""
    listed = list(rows)
    rule = "|---" * (2 + len(OPERATIONS)) + "|"
    notes = [
        f"`{row.case.name}` within {row.case.tolerance:.0e}: {row.case.why}."
        for row in listed
        if row.case.tolerance != TOLERANCE
    ]
    return "\n".join([HEAD, rule, *map(_line, listed), *(["", *notes] if notes else [])])


def _line(row: Row) -> str:
    cells = [_figure(row.differences.get(operation)) for operation in OPERATIONS]
    return f"| `{row.case.name}` | {row.case.exporter} | {' | '.join(cells)} |"


def _figure(difference: float | None) -> str:
    if difference is None:
        return "-"
    return "0" if difference == 0 else f"{difference:.0e}"
