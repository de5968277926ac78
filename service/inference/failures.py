"""What an exception of ONNX Runtime means: the rows are at fault, memory is short, or it is over.

The runtime has few exception classes and puts CUDA's own codes into their text, so the text is
what there is to go by. Where each comes from stands beside it; the tests hold whole messages.
"""

import logging
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from service.errors import AllocationError, DeviceLostError, InferenceError

logger = logging.getLogger(__name__)

FindFault: TypeAlias = Callable[[], str | None]

# cuda_call.cc and cudnn_fe_call.cc: "%s failure %d: %s ; GPU=%d ; hostname=%s ; ..."
_LIBRARY_FAILURE: Final = re.compile(r"\b(CUDA|CUBLAS|CUDNN|CUDNN_FE|CUFFT|CURAND) failure (\d+):")

# cudaError_t of which the documentation of the CUDA runtime says that the process must be
# terminated and relaunched; and the uncorrectable errors of memory and link, which end a context
_FINAL_CODES: Final = frozenset(
    {
        *(214, 220),  # ECCUncorrectable, NvlinkUncorrectable
        226,  # Contained
        *(700, 702, 710),  # IllegalAddress, LaunchTimeout, Assert
        *(714, 715, 716, 717, 718),  # HardwareStackError to InvalidPc
        *(719, 721),  # LaunchFailure, TensorMemoryLeak
        911,  # ExternalDevice
    }
)

_NO_MEMORY: Final = (
    "Failed to allocate memory for requested buffer",  # bfc_arena.cc, on every device
    "is smaller than requested bytes of",  # bfc_arena.cc, at the limit of an arena
    "Failed to find a free memory block",  # bfc_arena.cc
    "std::bad_alloc",  # the C++ library, where there is no arena
    "CUDA failure 2:",  # cudaErrorMemoryAllocation, "out of memory"
    "cudaMallocFromPoolAsync failed",  # the CUDA provider's other arena
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",  # cuDNN 8
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",  # cuDNN 9
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUFFT_ALLOC_FAILED",
)


# the checker of onnx and ONNX Runtime itself say the first, the runtime the second of other domains
_UNKNOWN_OPERATOR: Final = ("No Op registered for", "is not a registered function/op")


def unknown_operator(error: Exception) -> str | None:
    """Say that a graph has an operator that nobody knows, if that is what *error* means."""
    if any(mark in str(error) for mark in _UNKNOWN_OPERATOR):
        return "a graph has an operator that ONNX Runtime does not know"
    return None


def translated(error: Exception, find_fault: FindFault) -> InferenceError:
    """Say in our words what *error* means.

    Some errors of CUDA name themselves as final. What cuBLAS and cuDNN report may be their own or
    the echo of a context that is broken already, and the arena calls every failure of
    ``cudaMalloc`` a lack of memory: then the device itself is asked.

    Args:
        error: What ONNX Runtime raised.
        find_fault: Tries the device and tells what is wrong with it, ``None`` if nothing is.
    """
    text = str(error)
    if _is_final(text):
        return _lost(error, "CUDA says so")
    is_memory = isinstance(error, MemoryError) or _is_memory(text)
    if is_memory or _LIBRARY_FAILURE.search(text):
        fault = find_fault() or ""
        # where memory is short the trial may fail for the lack of it
        if _is_final(fault) or (fault and not is_memory and not _is_memory(fault)):
            return _lost(error, f"a tiny graph fails there too: {fault}")
        is_memory = is_memory or _is_memory(fault)
    if is_memory:
        return AllocationError("there was no memory for the run")
    return InferenceError("the model failed on these rows")


def _is_final(text: str) -> bool:
    failures = _LIBRARY_FAILURE.findall(text)
    return any(library == "CUDA" and int(code) in _FINAL_CODES for library, code in failures)


def _is_memory(text: str) -> bool:
    return any(mark in text for mark in _NO_MEMORY)


def _lost(error: Exception, why: str) -> DeviceLostError:
    logger.critical("the device is lost until the process restarts: %s", why, exc_info=error)
    return DeviceLostError("the device failed")
