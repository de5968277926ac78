"""The live models of this process: name and version -> model; load, find, drain, close."""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeAlias

from service.assembly import Engine, LiveModel, assemble
from service.errors import (
    DeviceLostError,
    DeviceUnavailableError,
    PackageError,
    UnavailableError,
    UnknownModelError,
    UnsupportedOperationError,
)
from service.grants import usable_cores
from service.inference.allowance import Allowance
from service.loading import Load
from service.repository.calibrations import CalibrationSet
from service.repository.manifest import Manifest
from service.repository.packages import Location, linked_models, read_package, scan
from service.scoring.calibration import Calibration

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["loading", "ready", "failed"]

# one reads files while others measure, more of them only wait for the interpreter; one that cannot
# be stopped takes a place for its time
_LOADS_BESIDE_CORES = 1

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(slots=True)
class Entry:
    """One version that was found on disk, and how far it has come."""

    location: Location
    state: State = "loading"
    reason: str | None = None
    manifest: Manifest | None = None
    live: LiveModel | None = None


class Registry:
    """Every version in the repository, and the live models of those that load.

    Args:
        models: The repository's folder.
        engine: What the models share.
        required: ``name`` or ``name/version``; all that are found when empty.

    Attributes:
        changes: How often what is served has changed.
    """

    def __init__(self, models: Path, engine: Engine, *, required: Sequence[str] = ()) -> None:
        self._models = models
        self._engine = engine
        self._required = tuple(required)
        self._entries: dict[str, dict[int, Entry]] = {}
        self._linked: list[str] = []
        self._loads: list[Load] = []
        self.changes = 0
        self._is_withdrawn = False

    def discover(self) -> None:
        """Look what the repository holds.

        Raises:
            ConfigurationError: It is not a folder.
        """
        for location in scan(self._models):
            self._entries.setdefault(location.name, {})[location.version] = Entry(location)
        self._linked = linked_models(self._models)
        for name in self._linked:
            logger.error("model %s is left out: its folder is a link", name)
        for name in self._missing():
            logger.error("the required model %s is not in the repository", name)

    async def load(self) -> None:
        """Load everything that was found, side by side; a bad package is left out loudly."""
        places = asyncio.Semaphore(usable_cores() + _LOADS_BESIDE_CORES)
        await asyncio.gather(*(self._load(entry, places) for entry in self.entries()))

    def entries(self) -> list[Entry]:
        """Every version by name, oldest first."""
        return [
            versions[number]
            for _, versions in sorted(self._entries.items())
            for number in sorted(versions)
        ]

    @property
    def is_ready(self) -> bool:
        """Whether every required model serves."""
        return not self.not_ready()

    def not_ready(self) -> list[str]:
        """Name the required models that do not serve, with the reason."""
        missing = [f"{name} is not in the repository" for name in self._missing()]
        missing += [f"{name} is a link" for name in self._linked if not self._required]
        return missing + [
            f"{entry.location} is {entry.state}"
            for entry in self.entries()
            if self._is_required(entry) and entry.state != "ready"
        ]

    def versions(self, name: str) -> list[Entry]:
        """Every version of a model, oldest first.

        Raises:
            UnknownModelError: No such model.
        """
        if name not in self._entries:
            raise UnknownModelError("no such model")
        return [entry for _, entry in sorted(self._entries[name].items())]

    def find(self, name: str, version: str | None = None) -> Entry:
        """Find a version, or without one the newest that serves, else the newest.

        Raises:
            UnknownModelError: No such model or version.
            UnsupportedOperationError: *version* is a label that the model does not have.
        """
        versions = self.versions(name)
        if version is None:
            ready = [entry for entry in versions if entry.state == "ready"]
            return (ready or versions)[-1]
        for entry in versions:
            if str(entry.location.version) == version:
                return entry
        if _LABEL.fullmatch(version):
            raise UnsupportedOperationError("the model does not have this label")
        numbers = ", ".join(str(entry.location.version) for entry in versions[-10:])
        raise UnknownModelError("no such version of this model", expected=numbers)

    def resolve(self, name: str, version: str | None = None) -> LiveModel:
        """Find the live model that answers for *name* and *version*.

        Raises:
            UnknownModelError: No such model or version.
            UnsupportedOperationError: *version* is a label that the model does not have.
            UnavailableError: It is there but does not serve, or the device is lost.
        """
        entry = self.find(name, version)
        if self._is_withdrawn:
            raise UnavailableError(
                "the device is lost", retry_after_s=DeviceLostError.retry_after_s
            )
        if entry.live is None:
            why = "is being loaded" if entry.state == "loading" else "could not be loaded"
            raise UnavailableError(f"the model {why}")
        return entry.live

    def recalibrate(
        self, entry: Entry, calibration: Calibration | None, chosen: CalibrationSet | None
    ) -> None:
        """Let a model that serves judge by another calibration from now on.

        Args:
            entry: The version.
            calibration: What it judges by.
            chosen: Which of the stored ones that is; ``None`` for the package's own.
        """
        if entry.live is None:
            return
        entry.live = entry.live.judged_by(calibration, chosen, self._engine.metrics)
        self.changes += 1
        logger.info(
            "calibration changed",
            extra={
                "model": entry.live.name,
                "version": entry.live.version,
                "calibration": "package" if chosen is None else f"{chosen.name}/{chosen.version}",
            },
        )

    async def drain(self) -> None:
        """Answer everybody who waits, refuse everybody else, load nothing more."""
        self._engine.stopping.set()
        for load in self._loads:
            load.stop()
        await asyncio.gather(*(live.autoencoder.drain() for live in self._live()))

    def withdraw(self) -> None:
        """Show every model as not ready and resolve none any more: the device is lost."""
        self._is_withdrawn = True
        self.changes += 1
        for live in self._live():
            live.metrics.ready.set(0)

    def close(self) -> None:
        """Drop every session and its series."""
        self._engine.stopping.set()
        for entry in self.entries():
            if entry.live is not None:
                self._drop(entry.live)
                entry.live, entry.state = None, "failed"
                self.changes += 1
        self._engine.lanes.close()

    @property
    def has_stuck_loads(self) -> bool:
        """Whether a load goes on that cannot be stopped."""
        return any(load.is_stuck for load in self._loads)

    async def _load(self, entry: Entry, places: asyncio.Semaphore) -> None:
        async with places:
            started = perf_counter()
            load = Load(partial(self._assemble, entry), self._engine, self._drop)
            self._loads.append(load)
            await self._settle(entry, load, started)
            if not load.is_stuck:
                self._loads.remove(load)

    async def _settle(self, entry: Entry, load: Load, started: float) -> None:
        try:
            live = await load.run()
        except UnavailableError:
            entry.state, entry.reason = "failed", "the server was stopped"
        except (PackageError, DeviceUnavailableError) as error:
            self._leave_out(entry, str(error), error)
        except Exception as error:  # noqa: BLE001 - one broken model must not take the others along
            self._leave_out(entry, "it cannot be loaded", error)
        else:
            self._publish(entry, live, perf_counter() - started)

    def _assemble(self, entry: Entry, allowance: Allowance) -> LiveModel:
        if self._engine.stopping.is_set():
            raise UnavailableError("the server is stopping")
        package = read_package(entry.location)
        entry.manifest = package.manifest
        return assemble(package, self._engine, allowance)

    def _publish(self, entry: Entry, live: LiveModel, seconds: float) -> None:
        if self._engine.stopping.is_set():  # the server was stopped while this model was loading
            self._drop(live)
            return
        entry.live, entry.state = live, "ready"
        self.changes += 1
        live.metrics.ready.set(1)
        logger.info(
            "model ready",
            extra={
                "model": live.name,
                "version": live.version,
                "provider": live.provider,
                "seconds": round(seconds, 3),
            },
        )

    def _drop(self, live: LiveModel) -> None:
        live.close()
        self._engine.metrics.remove(live.name, live.version)

    @staticmethod
    def _leave_out(entry: Entry, reason: str, error: Exception) -> None:
        entry.state, entry.reason = "failed", reason
        logger.error("model %s is left out: %s", entry.location, reason, exc_info=error)

    def _live(self) -> Iterable[LiveModel]:
        return [entry.live for entry in self.entries() if entry.live is not None]

    def _is_required(self, entry: Entry) -> bool:
        names = {entry.location.name, str(entry.location)}
        return not self._required or not names.isdisjoint(self._required)

    def _missing(self) -> list[str]:
        found = {str(entry.location) for entry in self.entries()} | set(self._entries)
        return [name for name in self._required if name not in found]
