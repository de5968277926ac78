"""Who answers when a model is measured: a package in memory, or a service that is running.

Both give the same answers, and the figures of a card are made by the same lines from either.
"""

from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.inference.graphs import CODE, RECONSTRUCTION, SCORE
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.packaging import answers, calibrate_package
from service.repository.packages import Package
from service.scoring.calibration import DEFAULT_FALSE_POSITIVE_RATE
from service.scoring.measures import MSE, Scores

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

    def scores(self, rows: Rows) -> Scores: ...

    @property
    def threshold(self) -> float:
        """The score above which the model calls a row anomalous if nothing else is asked."""
        ...


class Packed:
    """A package in memory, answering with the graphs that the server would open.

    Args:
        package: Graphs and manifest.
        calibration_rows: What its threshold comes from.
    """

    def __init__(self, package: Package, calibration_rows: Rows) -> None:
        self._package, self._calibration_rows = package, calibration_rows

    def codes(self, rows: Rows) -> Rows:
        return answers(self._package, rows)[CODE]

    def clusters(self, rows: Rows) -> Numbers:
        return self._file("encoder.onnx", rows)[1].astype(np.int64)

    def reconstructions(self, rows: Rows) -> Rows:
        return answers(self._package, rows)[RECONSTRUCTION]

    def decoded(self, codes: Rows) -> Rows:
        reconstructions: Rows = self._file("decoder.onnx", codes)[0]
        return reconstructions

    def scores(self, rows: Rows) -> Scores:
        return answers(self._package, rows)[SCORE]

    @cached_property
    def threshold(self) -> float:
        calibration = calibrate_package(self._package, self._calibration_rows)
        return calibration.threshold(MSE, DEFAULT_FALSE_POSITIVE_RATE)

    def _file(self, name: str, rows: Rows) -> tuple[Rows, ...]:
        return OrtSession(self._package.files[name], Device()).run(rows)
