"""A service that is running, asked over HTTP as any client would ask it."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt

from service.repository.manifest import Description
from service.scoring.measures import Scores

Rows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

NPY, JSON = "application/x-npy", "application/json"
ROWS_A_REQUEST = 500
WITHIN_S = 120.0


class ServiceEndedError(Exception):
    """The service did not come to listen."""


class Served:
    """One version of a model behind a service's address; it answers like ``answers.Packed``.

    Args:
        address: Of the service, without a slash at its end.
        name: Of the model.
        version: Of the model.
    """

    def __init__(self, address: str, name: str, version: int) -> None:
        self._model = f"{address}/v1/models/{name}/versions/{version}"

    @cached_property
    def card(self) -> dict[str, Any]:
        """What the service says of the model."""
        card: dict[str, Any] = json.loads(_ask(Request(self._model)))  # noqa: S310 - http
        return card

    def codes(self, rows: Rows) -> Rows:
        return self._numbers("encode", rows)

    def clusters(self, rows: Rows) -> Numbers:
        found = [json.loads(answer)["cluster"] for answer in self._answers("encode", rows, JSON)]
        return np.concatenate(found).astype(np.int64)

    def layer(self, name: str, rows: Rows) -> Rows:
        """What an inner layer gives."""
        return self._numbers(f"encode?layer={name}", rows)

    def reconstructions(self, rows: Rows) -> Rows:
        return self._numbers("reconstruct", rows)

    def decoded(self, codes: Rows) -> Rows:
        return self._numbers("decode", codes)

    def scores(self, rows: Rows, measure: str | None = None) -> Scores:
        asked = "" if measure is None else f"?metric={measure}"
        return self._numbers(f"anomaly-score{asked}", rows)

    def domains(self, rows: Rows) -> npt.NDArray[np.str_]:
        """Whether each row is ``in`` or ``out``."""
        answers = self._answers("anomaly-score?include=domain", rows, JSON)
        return np.concatenate([json.loads(answer)["domain"] for answer in answers])

    def first_features(self, rows: Rows) -> Numbers:
        """The place of each row's feature with the largest error, one number an axis."""
        answers = self._answers("anomaly-score?explain=1", rows, JSON)
        found = [row[0]["index"] for each in answers for row in json.loads(each)["explanations"]]
        return np.array(found, np.int64)

    @property
    def measures(self) -> Sequence[str]:
        metrics: list[str] = self.card["calibration"]["metrics"]
        return metrics

    @cached_property
    def threshold(self) -> float:
        shape = [number or 1 for number in self.card["input"]["shape"]]
        (answer,) = self._answers("anomaly-score", np.zeros((1, *shape), np.float32), JSON)
        # JSON has the shortest text of a float32
        return float(np.float32(json.loads(answer)["threshold"]))

    def _numbers(self, operation: str, rows: Rows) -> Rows:
        answers = self._answers(operation, rows, NPY)
        return np.concatenate([np.load(io.BytesIO(answer)) for answer in answers])

    def _answers(self, operation: str, rows: Rows, accepted: str) -> list[bytes]:
        starts = range(0, len(rows), ROWS_A_REQUEST)
        parts = [rows[start : start + ROWS_A_REQUEST] for start in starts]
        return [self._answer(operation, part, accepted) for part in parts]

    def _answer(self, operation: str, rows: Rows, accepted: str) -> bytes:
        body = io.BytesIO()
        np.save(body, rows)
        headers = {"Content-Type": NPY, "Accept": accepted}
        return _ask(
            Request(f"{self._model}/{operation}", data=body.getvalue(), headers=headers)  # noqa: S310
        )


def _ask(request: Request) -> bytes:
    with urlopen(request, timeout=WITHIN_S) as answer:  # noqa: S310 - an address of http
        content: bytes = answer.read()
    return content


def described(folder: Path) -> Description:
    """Read the card in a package's folder, whose claims are compared with what is measured."""
    content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    return Description(**{key: content[key] for key in Description.model_fields if key in content})


@contextmanager
def service(models: Path) -> Iterator[str]:
    """Start ``hourglass serve`` on a free port of this machine and give its address."""
    clean = {name: value for name, value in os.environ.items() if "HOURGLASS" not in name}
    command = [sys.executable, "-m", "service", "serve", "--port", "0", "--models", str(models)]
    # a file and not a pipe, which would stop the service once it is full of lines nobody reads
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - a command of our own
            [*command, "--log-format", "json"], stderr=log, env=clean
        )
        try:
            deadline = time.monotonic() + WITHIN_S
            address = f"http://127.0.0.1:{_port(process, log, deadline)}"
            _wait_until_ready(address, deadline)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=WITHIN_S)


def _port(process: "subprocess.Popen[bytes]", log: IO[str], deadline: float) -> int:
    """Wait for the line of the log that says where the service listens."""
    while time.monotonic() < deadline and process.poll() is None:
        log.seek(0)
        for line in log.read().splitlines(keepends=True):
            if line.endswith("\n") and (said := json.loads(line))["message"] == "listening":
                return int(said["port"])
        time.sleep(0.05)
    raise ServiceEndedError("the service ended before it listened, or took too long")


def _wait_until_ready(address: str, deadline: float) -> None:
    """Wait for the models, which are opened while the service listens already."""
    while True:
        try:
            _ask(Request(f"{address}/readyz"))  # noqa: S310 - http
        except HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
