"""Calibrations of a version: which there are, making one of clean rows, choosing and going back.

They go to the state folder and never into a package, and whoever may use them may change what
counts as an anomaly: with API keys all but reading needs the scope ``manage``.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.inputs import Body
from service.api.models import shown_thresholds
from service.api.options import Options, read_options, split_by_commas
from service.api.requests import Watch, headers_of, query_of, timeout_of
from service.api.runtime import Runtime, exchange_of, runtime_of
from service.api.schemas import RowList, without_resize
from service.assembly import LiveModel
from service.calibrating import Choice, calibrate_model, in_chunks
from service.errors import (
    InvalidRowsError,
    PackageError,
    UnavailableError,
    UnsupportedOperationError,
)
from service.inference import operations
from service.registry import Entry
from service.repository.calibrations import (
    CalibrationSet,
    activate,
    calibrations_of,
    find_calibration,
    list_calibrations,
    load_calibration,
    revert,
    save_calibration,
)
from service.repository.manifest import MODEL_NAME_PATTERN
from service.scoring.calibration import Calibration
from service.scoring.measures import MSE
from service.specs import Rows

PATH: Final = "/v1/models/{model}/versions/{version}/calibrations"

router = APIRouter(prefix=PATH, tags=["calibrations"])

# bodies are limited by their bytes
MAX_ROWS: Final = 1_000_000

ACTIVE: Final = "/active"

# one at a time: each takes a core for seconds
_turn = asyncio.Lock()


class CalibrationOptions(Options):
    """What a new calibration is to be."""

    name: str | None = Field(
        None, pattern=MODEL_NAME_PATTERN, description="What it is called; it must have a name."
    )
    description: str = Field("", max_length=1000, description="What its rows are, in words.")
    metrics: Annotated[tuple[str, ...] | None, BeforeValidator(split_by_commas)] = Field(
        None, description="By which rows can be scored; all that suit the model without it."
    )
    default_metric: str = Field(MSE, description="What answers when a request asks for none.")
    activate: bool = Field(True, description="Whether it counts from now on.")


class CalibrationBody(CalibrationOptions):
    """Clean rows of the model's input, and what the calibration is to be."""

    model_config = ConfigDict(json_schema_extra=without_resize)

    inputs: RowList


class CalibrationInfo(BaseModel):
    """One stored calibration."""

    name: str
    version: int = Field(description="Numbered from 1 within the name, and never changed.")
    description: str
    created: datetime
    rows: int = Field(description="Behind its default metric.")
    metrics: list[str]
    default_metric: str
    data_sha256: str = Field(description="Of its rows, one after another.")
    usable: bool = Field(description="false where it belongs to other weights.")

    @classmethod
    def of(cls, stored: CalibrationSet, live: LiveModel) -> "CalibrationInfo":
        return cls(
            name=stored.name,
            version=stored.version,
            description=stored.description,
            created=stored.created,
            rows=stored.rows,
            metrics=list(stored.measures),
            default_metric=stored.default_measure,
            data_sha256=stored.data_sha256,
            usable=stored.model_sha256 == live.model_sha256,
        )


class CalibrationName(BaseModel):
    """Names a calibration."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int | None = Field(None, description="The newest of that name without it.")


class CalibrationList(BaseModel):
    """What a version of a model can be judged by."""

    model: str
    version: str
    active: CalibrationName | None = Field(description="null for the package's own.")
    calibrations: list[CalibrationInfo]


class MadeCalibration(BaseModel):
    """A calibration that was just made."""

    model: str
    version: str
    active: bool
    calibration: CalibrationInfo
    thresholds: dict[str, dict[str, float]] = Field(
        description="For each metric, thresholds by false positive rate."
    )


@router.get("", summary="List the calibrations of a version")
async def show_calibrations(request: Request, model: str, version: str) -> CalibrationList:
    """List what was made for a version beside its package, and which one counts."""
    runtime = runtime_of(request.scope)
    live = runtime.registry.resolve(model, version)
    state = runtime.settings.state
    if state is None:
        return _listed(live, [])
    folder = calibrations_of(state, runtime.registry.find(model, version).location)
    return _listed(live, await _apart(partial(list_calibrations, folder)))


@router.post("", status_code=201, summary="Calibrate a version on clean rows")
async def make_calibration(request: Request, model: str, version: str) -> MadeCalibration:
    """Score clean rows that the model was not trained on, and judge by them from now on."""
    runtime = runtime_of(request.scope)
    live, entry, folder = _place(runtime, model, version)
    options, rows = await _read(request, runtime, live)
    if options.name is None:
        raise InvalidRowsError("a calibration needs a name", expected="the option name")
    choice = Choice(options.metrics, options.default_metric)
    made = await _calibrated(request, live, rows, choice)
    now = datetime.now(UTC)
    save = partial(save_calibration, folder, options.name, made, now=now)
    stored = await _apart(partial(save, description=options.description))
    if options.activate:
        await _apart(partial(activate, folder, stored.name, stored.version, now=now))
        runtime.registry.recalibrate(entry, made, stored)
    return MadeCalibration(
        model=live.name,
        version=live.version,
        active=options.activate,
        calibration=CalibrationInfo.of(stored, live),
        thresholds=shown_thresholds(made),
    )


@router.put(ACTIVE, summary="Judge by another calibration")
async def choose_calibration(
    request: Request, model: str, version: str, wanted: CalibrationName
) -> CalibrationList:
    """Let a stored calibration count from now on."""
    runtime = runtime_of(request.scope)
    live, entry, folder = _place(runtime, model, version)

    def choose() -> tuple[CalibrationSet, Calibration]:
        chosen = _usable(folder, wanted, live)
        loaded = load_calibration(folder, chosen)
        return activate(folder, chosen.name, chosen.version, now=datetime.now(UTC)), loaded

    chosen, loaded = await _apart(choose)
    runtime.registry.recalibrate(entry, loaded, chosen)
    return await show_calibrations(request, model, version)


@router.delete(ACTIVE, summary="Take the last choice back")
async def revert_calibration(request: Request, model: str, version: str) -> CalibrationList:
    """Judge by what counted before; at last by the package's own calibration."""
    runtime = runtime_of(request.scope)
    live, entry, folder = _place(runtime, model, version)

    def go_back() -> tuple[CalibrationSet | None, Calibration | None]:
        chosen = revert(folder)
        if chosen is None or chosen.model_sha256 != live.model_sha256:
            return None, live.packaged
        return chosen, load_calibration(folder, chosen)

    chosen, loaded = await _apart(go_back)
    runtime.registry.recalibrate(entry, loaded, chosen)
    return await show_calibrations(request, model, version)


T = TypeVar("T")


async def _apart(work: Callable[[], T]) -> T:
    """Do what touches the disk in a thread.

    Raises:
        UnavailableError: The state folder cannot be read or written.
    """
    try:
        return await asyncio.to_thread(work)
    except (OSError, PackageError) as error:
        raise UnavailableError("the state folder cannot be used") from error


def _place(runtime: Runtime, model: str, version: str) -> tuple[LiveModel, Entry, Path]:
    """Find the model, and where its calibrations are kept.

    Raises:
        UnsupportedOperationError: There is no state folder, or the model has no scores.
    """
    live = runtime.registry.resolve(model, version)
    live.autoencoder.check_has(operations.ANOMALY_SCORE)
    state = runtime.settings.state
    if state is None:
        raise UnsupportedOperationError(
            "the server has no state folder, which keeps calibrations",
            expected="a server with HOURGLASS_STATE",
        )
    entry = runtime.registry.find(model, version)
    return live, entry, calibrations_of(state, entry.location)


async def _read(
    request: Request, runtime: Runtime, live: LiveModel
) -> tuple[CalibrationOptions, Rows]:
    """Read rows of the model's input in any of their formats, and the options with them."""
    headers, ticket = headers_of(request.scope), exchange_of(request.scope).ticket
    query = query_of(request.scope)
    settings = runtime.settings.model_copy(update={"max_request_rows": MAX_ROWS})
    longest_s = runtime.settings.load_timeout_ms / 1e3
    ticket.deadline = ticket.started + timeout_of(headers, longest_s)
    body = Body(headers, live.manifest.input, settings)
    options = read_options(CalibrationOptions, query, {})
    data = await body.read(request.receive, headers, ticket, Watch())
    rows, fields = await asyncio.to_thread(body.parse, data, options)
    return read_options(CalibrationOptions, query, fields), rows


async def _calibrated(request: Request, live: LiveModel, rows: Rows, choice: Choice) -> Calibration:
    ticket = exchange_of(request.scope).ticket
    try:
        async with _turn:
            return await calibrate_model(
                live.autoencoder,
                in_chunks(rows),
                choice,
                model_sha256=live.model_sha256,
                ticket=ticket,
            )
    except PackageError as error:
        raise InvalidRowsError(str(error)) from error


def _usable(folder: Path, wanted: CalibrationName, live: LiveModel) -> CalibrationSet:
    found = find_calibration(folder, wanted.name, wanted.version)
    if found.model_sha256 != live.model_sha256:
        raise UnsupportedOperationError("this calibration belongs to other weights")
    return found


def _listed(live: LiveModel, found: Sequence[CalibrationSet]) -> CalibrationList:
    active = live.calibration_set
    return CalibrationList(
        model=live.name,
        version=live.version,
        active=active and CalibrationName(name=active.name, version=active.version),
        calibrations=[CalibrationInfo.of(each, live) for each in found],
    )
