"""Who answers when a model is measured: a package in memory, or a service that is running.

Both give the same answers, and the figures of a card are made by the same lines from either.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.calibrating import Choice
from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.packaging import answers, calibrate_package
from service.repository.packages import Package
from service.scoring import catalogue
from service.scoring.calibration import DEFAULT_FALSE_POSITIVE_RATE, Calibration
from service.scoring.measures import MSE, Scores
from training.evidence import gather

Rows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


class Answers(Protocol):
    """What can be asked of a model."""

    def codes(self, rows: Rows) -> Rows: ...

    def clusters(self, rows: Rows) -> Numbers:
        """Only of a model whose encoder gives a cluster."""
        ...

    def reconstructions(self, rows: Rows) -> Rows: ...

    def decoded(self, codes: Rows) -> Rows: ...

    def scores(self, rows: Rows, measure: str | None = None) -> Scores:
        """By the model's default measure, if no other is named."""
        ...

    @property
    def measures(self) -> Sequence[str]:
        """Those that the model is calibrated for."""
        ...

    @property
    def threshold(self) -> float:
        """The score above which the model calls a row anomalous if nothing else is asked."""
        ...


ERRORS_ALONE = Choice(measures=(MSE,))


class Packed:
    """A package in memory, answering with the graphs that the server would open.

    Args:
        package: Graphs and manifest.
        calibration_rows: What its threshold comes from.
        choice: By which measures it scores.
    """

    def __init__(
        self, package: Package, calibration_rows: Rows, choice: Choice = ERRORS_ALONE
    ) -> None:
        self._package, self._calibration_rows, self._choice = package, calibration_rows, choice

    def codes(self, rows: Rows) -> Rows:
        return answers(self._package, rows)[CODE]

    def clusters(self, rows: Rows) -> Numbers:
        return self._file("encoder.onnx", rows)[1].astype(np.int64)

    def reconstructions(self, rows: Rows) -> Rows:
        return answers(self._package, rows)[RECONSTRUCTION]

    def decoded(self, codes: Rows) -> Rows:
        reconstructions: Rows = self._file("decoder.onnx", codes)[0]
        return reconstructions

    def scores(self, rows: Rows, measure: str | None = None) -> Scores:
        name = measure or self._choice.default
        if name == MSE:
            return answers(self._package, rows)[SCORE]
        spec, learned = self._package.manifest.input, self._calibration.fitted.get(name)
        return catalogue.score(name, gather(self._package, rows), spec, learned)

    @property
    def measures(self) -> Sequence[str]:
        return self._calibration.measures

    @property
    def threshold(self) -> float:
        return self._calibration.threshold(self._choice.default, DEFAULT_FALSE_POSITIVE_RATE)

    @cached_property
    def _calibration(self) -> Calibration:
        return calibrate_package(self._package, self._calibration_rows, self._choice)

    def _file(self, name: str, rows: Rows) -> tuple[Rows, ...]:
        return OrtSession(self._package.files[name], Device()).run(rows)
