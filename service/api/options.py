"""Options of an operation: query parameters, or fields beside ``inputs`` in a JSON body."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, ValidationError
from pydantic_core import ErrorDetails

from service.errors import InvalidRowsError, together
from service.scoring.thresholds import Method
from service.scoring.verdicts import RuleWish

Finite = Annotated[float, Field(allow_inf_nan=False)]

# of each row; a client who wants more wants include=feature_errors
MAX_EXPLAINED: Final = 1000

# by the first word of pydantic's types of errors
_EXPECTED: Final = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "greater": f"1 to {MAX_EXPLAINED}",
    "less": f"1 to {MAX_EXPLAINED}",
    "string": "a text",
    "tuple": "a list of texts",
}


class Options(BaseModel):
    """What every operation understands.

    Attributes:
        resize: Bring a picture to the model's size first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: bool = Field(
        default=False, description="Bring a picture to the model's size (bicubic)."
    )


def split_by_commas(value: object) -> object:
    """Make a list of what a query can only write as one text."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    return tuple(value) if isinstance(value, list) else value


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], FailFast(), BeforeValidator(split_by_commas)]
"""Several of a closed set: a list in JSON, a text with commas in a query."""

_INCLUDE: Final = "Further parts of the answer."


class RowOptions(Options):
    """What ``decode`` and ``reconstruct`` understand beside it."""

    include: Listed[Literal["domain"]] = Field((), description=_INCLUDE)


class EncodeOptions(RowOptions):
    """What ``encode`` understands beside it."""

    layer: str | None = Field(
        None, description="A layer that the card lists; it is given instead of the code."
    )


class ScoreOptions(Options):
    """What ``anomaly-score`` understands beside it."""

    metric: str | None = Field(None, description="One that the model was calibrated for.")
    false_positive_rate: Finite | None = Field(
        None,
        description="Share of normal rows that may lie above the threshold.",
        json_schema_extra={"exclusiveMinimum": 0, "exclusiveMaximum": 1},
    )
    threshold: Finite | None = Field(
        None, description="In the metric's unit, instead of a false positive rate."
    )
    method: Method | None = Field(
        None,
        description="How the threshold is found: conformal (the default), tail for rates rarer"
        " than the calibration shows, or mad and iqr, which take no rate.",
    )
    explain: Annotated[int, Field(ge=1, le=MAX_EXPLAINED)] | None = Field(
        None, description="So many features of each row, those with the largest share of the error."
    )
    include: Listed[Literal["feature_errors", "domain", "regions", "uncertain"]] = Field(
        (), description=_INCLUDE
    )

    @property
    def rule_wish(self) -> RuleWish:
        """What they say of the rule."""
        return RuleWish(
            measure=self.metric,
            false_positive_rate=self.false_positive_rate,
            threshold=self.threshold,
            method=self.method,
            with_interval="uncertain" in self.include,
        )


O = TypeVar("O", bound=Options)  # noqa: E741 - one letter for a type variable


def read_options(kind: type[O], query: Mapping[str, str], fields: Mapping[str, Any]) -> O:
    """Join the options of query and body.

    Raises:
        InvalidRowsError: One is unknown, of the wrong type, or given in both places.
    """
    if not query and not fields:
        return cast("O", _defaults(kind))
    if not query.keys().isdisjoint(fields):
        raise InvalidRowsError("an option is given twice", expected="in the query or in the body")
    if not kind.model_fields.keys() >= {*query, *fields}:
        raise _unknown_options({*query, *fields}, kind)
    try:
        # numbers in JSON are numbers, in a query they can only be text
        from_body = kind.model_validate(fields, strict=True)
        from_query = kind.model_validate(_read(query))
    except ValidationError:
        raise _wrong_options(kind, _read(query), fields) from None
    return from_body.model_copy(update=from_query.model_dump(exclude_unset=True))


def _read(query: Mapping[str, str]) -> Mapping[str, Any]:
    """Tell an empty list from one that holds an empty text: in a query they look the same."""
    return {**query, "include": []} if query.get("include") == "" else query


@cache
def _defaults(kind: type[Options]) -> Options:
    return kind()


def _unknown_options(given: set[str], kind: type[Options]) -> InvalidRowsError:
    unknown = len(given - kind.model_fields.keys())
    known = ", ".join(sorted(kind.model_fields))
    return InvalidRowsError(
        "an option is unknown",
        expected=f"one of: {known}",
        received=f"{unknown} unknown",
    )


def _wrong_options(
    kind: type[Options], query: Mapping[str, Any], fields: Mapping[str, Any]
) -> InvalidRowsError:
    wrong = {**_faults(kind, fields, strict=True), **_faults(kind, query, strict=False)}
    faults = [
        InvalidRowsError(f"the option '{name}' is wrong", expected=expected)
        for name, expected in wrong.items()
    ]
    return together(faults, len(faults))


def _faults(kind: type[Options], given: Mapping[str, Any], *, strict: bool) -> dict[str, str]:
    """Say for each option that is wrong what would be right."""
    try:
        kind.model_validate(given, strict=strict)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        return {str(fault["loc"][0]): _expected(fault) for fault in faults}
    return {}


def _expected(fault: ErrorDetails) -> str:
    """Put pydantic's message, which may hold what was given, into our own words."""
    match fault["type"].partition("_")[0]:
        case "literal":
            return str(fault["ctx"]["expected"])
        case "finite":
            return "a finite number"
        case kind:
            return _EXPECTED.get(kind, "another type")
