"""Options of an operation: query parameters, or fields beside ``inputs`` in a JSON body."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.errors import InvalidRowsError

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Options(BaseModel):
    """What every operation understands.

    Attributes:
        resize: Bring a picture to the model's size first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: bool = False


class ScoreOptions(Options):
    """What ``anomaly-score`` understands beside it."""

    metric: str | None = Field(None, description="One that the model was calibrated for.")
    false_positive_rate: Finite | None = Field(
        None, description="Share of normal rows that may lie above the threshold."
    )
    threshold: Finite | None = Field(
        None, description="In the metric's unit, instead of a false positive rate."
    )
    include: tuple[Literal["feature_errors"], ...] = Field(
        (), description="Further parts of the answer."
    )

    @field_validator("include", mode="before")
    @classmethod
    def _split_by_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(","))
        return tuple(value) if isinstance(value, list) else value


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
    try:
        # numbers in JSON are numbers, in a query they can only be text
        from_body = kind.model_validate(fields, strict=True)
        from_query = kind.model_validate(query)
    except ValidationError as error:
        raise _wrong_option(error, kind) from None
    return from_body.model_copy(update=from_query.model_dump(exclude_unset=True))


@cache
def _defaults(kind: type[Options]) -> Options:
    return kind()


def _wrong_option(error: ValidationError, kind: type[Options]) -> InvalidRowsError:
    fault = error.errors(include_url=False, include_input=False)[0]
    name = str(fault["loc"][0])
    if name not in kind.model_fields:
        known = ", ".join(sorted(kind.model_fields))
        return InvalidRowsError("an option is unknown", expected=f"one of: {known}")
    return InvalidRowsError(f"the option '{name}' is wrong", expected=fault["msg"])
