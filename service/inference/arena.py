"""One arena for the runs of all sessions on the CPU.

A session of its own accord keeps what its largest run needed: 36 sessions of nine small models
kept 90 MiB. Few runs go on at the same time, so that what they need together is a fraction of it.
Weights do not lie in it, and go with their session.
"""

import threading
from typing import Final

import numpy as np
import onnxruntime as ort

from service.inference.providers import CPU_PROVIDER, doubling

_once: Final = threading.Lock()  # models load side by side
_registered: list[ort.OrtMemoryInfo] = []


def share_arena(options: ort.SessionOptions) -> None:
    """Let a session on the CPU take the memory of its runs from the common arena."""
    with _once:
        if not _registered:
            place = ort.OrtMemoryInfo(
                "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
            )
            ort.create_and_register_allocator(place, None)  # None: the defaults of a session's own
            _registered.append(place)
    options.add_session_config_entry("session.use_env_allocators", "1")


def shrink_arena() -> None:
    """Free what no run uses just now; the next large run asks for it again.

    ONNX Runtime does this at the end of a run that wants it, so a tiny one is made.
    """
    if not _registered:
        return
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    share_arena(options)
    shrinking = ort.RunOptions()
    shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    session = ort.InferenceSession(doubling(), options, providers=[CPU_PROVIDER])
    session.run(None, {"x": np.ones((1, 1), np.float32)}, shrinking)
