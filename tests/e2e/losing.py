"""``hourglass serve`` over a device that breaks: ``python -m tests.e2e.losing serve``.

The real sessions run on the CPU. A row that begins with a CUDA code (700, say) makes the runtime's
own session raise what ONNX Runtime raises then, and from there on every run of every session.
"""

import atexit
import os
import sys
from typing import Any

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from service.cli import _parser
from service.commands.console import read_settings
from service.commands.serve import serve
from service.inference.providers import Device
from service.inference.session import OrtSession
from service.specs import Rows
from tests.messages import cuda_failure


class BreakingDevice:
    """What all sessions share: the code of the error that every call gives, once there is one."""

    code: int | None = None

    def tear_down(self) -> None:
        """What lets go of anything on a broken device meets C++ destructors that throw."""
        if self.code is not None:
            os.abort()

    def check(self, rows: Rows) -> None:
        first = int(np.max(rows))
        if self.code is None and first >= 100:
            self.code = first
        if self.code is not None:
            raise Fail(cuda_failure(self.code))


class BreakingSession:
    """Stands for ``onnxruntime.InferenceSession`` on that device."""

    def __init__(self, session: Any, device: BreakingDevice) -> None:
        self._session = session
        self._device = device

    def run(self, outputs: list[str], feeds: dict[str, Rows], options: Any = None) -> Any:
        for rows in feeds.values():
            self._device.check(rows)
        return self._session.run(outputs, feeds, options)

    def __del__(self) -> None:
        self._device.tear_down()


def main() -> int:
    device = BreakingDevice()
    atexit.register(device.tear_down)  # the provider's library takes itself apart as well

    def make(graph: bytes, where: Device) -> OrtSession:
        session = OrtSession(graph, where)
        session._session = BreakingSession(session._session, device)
        return session

    return serve(read_settings(vars(_parser().parse_args())), sessions=make)


if __name__ == "__main__":
    sys.exit(main())
