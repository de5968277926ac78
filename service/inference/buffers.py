"""Memory on the device that stays from run to run: one set for each batch size.

Without it every run allocates on the device and copies in pieces of its own; with it a run of a
warmed batch size asks for nothing, and its addresses never change.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.inference.providers import Device
from service.specs import Rows

# the powers of two up to 32,768 rows, more than a batch ever has; other sizes run without
MAX_SIZES: Final = 16

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
}


class Buffers:
    """Runs a session through memory of its own, made at the first run of each batch size.

    One run at a time: the next one overwrites what the last one left. What *run* gives is a copy.

    Args:
        session: A session whose ends have a free batch axis and no other; see *made_for*.
        device: Where it runs.
    """

    def __init__(self, session: ort.InferenceSession, device: Device) -> None:
        self._session = session
        self._device = device
        self._input = session.get_inputs()[0]
        self._outputs = session.get_outputs()
        self._item_shape = tuple(self._input.shape[1:])
        self._dtype = _DTYPES[self._input.type]
        self._sets: dict[int, _Set] = {}

    @classmethod
    def made_for(cls, session: ort.InferenceSession, device: Device) -> "Buffers | None":
        """Make buffers where they can be: every end needs a known type and fixed axes."""
        ends = [*session.get_inputs(), *session.get_outputs()]
        if all(end.type in _DTYPES and _is_fixed(end.shape) for end in ends):
            return cls(session, device)
        return None

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that have their memory."""
        return sorted(self._sets)

    def take(self, rows: Rows) -> bool:
        """Whether *run* may be called with these rows.

        ONNX Runtime copies whatever has as many elements, a wrong type or shape too.
        """
        is_known = len(rows) in self._sets or len(self._sets) < MAX_SIZES
        return is_known and rows.dtype == self._dtype and rows.shape[1:] == self._item_shape

    def run(self, rows: Rows, options: ort.RunOptions | None = None) -> list[Rows]:
        """Copy rows in, run, copy the outputs out."""
        each = self._sets.get(len(rows))
        if each is None:
            each = self._sets[len(rows)] = self._make_set(len(rows))
        each.rows.update_inplace(rows)
        # bound anew after every filling: where the graph wants its input on another device than
        # this, ONNX Runtime copies it now, and would otherwise go on using the first copy
        each.binding.bind_ortvalue_input(self._input.name, each.rows)
        self._session.run_with_iobinding(each.binding, options)
        outputs: list[Rows] = each.binding.copy_outputs_to_cpu()
        return outputs

    def _make_set(self, size: int) -> "_Set":
        binding = self._session.io_binding()
        for output in self._outputs:
            value = self._allocate((size, *output.shape[1:]), _DTYPES[output.type])
            binding.bind_ortvalue_output(output.name, value)
        return _Set(self._allocate((size, *self._item_shape), self._dtype), binding)

    def _allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> ort.OrtValue:
        kind, index = self._device.kind, self._device.index
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, kind, index)


class _Set:
    """The input of one batch size, and what binds it to the outputs, which it keeps alive."""

    __slots__ = ("binding", "rows")

    def __init__(self, rows: ort.OrtValue, binding: Any) -> None:  # noqa: ANN401 - untyped runtime
        self.rows = rows
        self.binding = binding


def _is_fixed(shape: list[Any]) -> bool:
    """Whether the batch axis alone is free; ONNX Runtime names free axes, or gives ``None``."""
    return len(shape) > 0 and not isinstance(shape[0], int) and all(map(_is_length, shape[1:]))


def _is_length(axis: object) -> bool:
    return isinstance(axis, int)
