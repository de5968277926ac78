"""Which column of a table holds which value of a row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.errors import ConfigurationError, InvalidRowsError
from service.specs import TensorSpec, shape_text

# more than a line of a message holds are counted
_MAX_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """What the user says of the columns.

    Attributes:
        names: Those that make a row, in its order; the model's feature names without.
        ignores_others: Whether a table may have further columns.
    """

    names: tuple[str, ...] | None = None
    ignores_others: bool = False

    def wanted(self, spec: TensorSpec) -> tuple[str, ...] | None:
        """Give the names of the columns that make a row, where there are names."""
        return self.names or spec.features


def check_table(spec: TensorSpec, choice: ColumnChoice) -> None:
    """See that rows of *spec* can lie in a table, and that the chosen columns make one.

    Raises:
        ConfigurationError: They cannot, or do not.
    """
    if not spec.is_fixed:
        raise ConfigurationError(
            f"rows of the shape {shape_text(spec.shape)} do not fit into the columns of a table"
        )
    if choice.names is not None and len(choice.names) != spec.size:
        raise ConfigurationError(
            f"--columns names {len(choice.names)} columns, a row of the model has {spec.size}"
        )


def find_columns(header: Sequence[str], spec: TensorSpec, choice: ColumnChoice) -> list[int]:
    """Give for each value of a row the place of its column in *header*.

    Raises:
        InvalidRowsError: A column is missing, there twice, or one too many.
    """
    wanted = choice.wanted(spec)
    if wanted is None:
        check_width(len(header), spec)
        return list(range(spec.size))
    counts = Counter(header)
    missing = [name for name in wanted if name not in counts]
    if missing:
        raise InvalidRowsError(f"the table lacks {_listed(missing)}")
    twice = [name for name in wanted if counts[name] > 1]
    if twice:
        raise InvalidRowsError(f"the table has more than one {_listed(twice)}")
    others = sorted(counts.keys() - set(wanted))
    if others and not choice.ignores_others and choice.names is None:
        raise InvalidRowsError(
            f"the model does not know {_listed(others)}; --ignore-extra passes over further columns"
        )
    places = {name: place for place, name in enumerate(header)}
    return [places[name] for name in wanted]


def check_width(columns: int, spec: TensorSpec) -> None:
    """See that a table without names has as many columns as a row has values.

    Raises:
        InvalidRowsError: It has not.
    """
    if columns != spec.size:
        raise InvalidRowsError(
            f"the table has {columns} columns, a row of the model has {spec.size} values;"
            " --columns chooses by the names in a header"
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_MAX_NAMED])
    more = len(names) - _MAX_NAMED
    plural = "s" if len(names) > 1 else ""
    return f"column{plural} {shown}" + (f" and {more} more" if more > 0 else "")
