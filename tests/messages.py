"""What ONNX Runtime says when a run fails: whole texts, and where each was seen.

Those of the CPU come from 1.31.1 on this project's own graphs. Those of CUDA follow the format in
``cuda_call.cc`` and ``cudnn_fe_call.cc`` (read from the provider library of 1.31.1), or were
reported by others, under the number given.
"""

_CUDA_CALL = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc"
_THROWN = "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(...)"
_ARENA = (
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void*"
    " onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*)"
)


def _call(library: str, code: int, meaning: str, place: str, expression: str) -> str:
    file, line = place.split(":")
    return (
        f"{library} failure {code}: {meaning} ; GPU=0 ; hostname=10cb601a4a05 ;"
        f" file=/onnxruntime_src/onnxruntime/core/providers/cuda/{file} ; line={line}"
        f" ; expr={expression}; "
    )


def _node(status: str, operator: str, text: str) -> str:
    return (
        f"[ONNXRuntimeError] : {status} : Non-zero status code returned while running"
        f" {operator} node. Name:'{operator}_0' Status Message: {text}"
    )


def cuda_failure(code: int, meaning: str = "an error") -> str:
    """A run that finds the context broken when it copies its rows."""
    copy = "cudaMemcpyAsync(dst_data, src_data, bytes, cudaMemcpyHostToDevice, stream)"
    return "[ONNXRuntimeError] : 1 : FAIL : " + _call(
        "CUDA", code, meaning, "gpu_data_transfer.cc:63", copy
    )


# the meanings are those of cudaGetErrorString
FINAL = {
    "ECC": cuda_failure(214, "uncorrectable ECC error encountered"),
    "NVLink": cuda_failure(220, "uncorrectable NVLink error detected during the execution"),
    # pykeio/ort#321
    "illegal address": cuda_failure(700, "an illegal memory access was encountered"),
    "launch timeout": cuda_failure(702, "the launch timed out and was terminated"),
    "assert": cuda_failure(710, "device-side assert triggered"),
    "hardware stack": cuda_failure(714, "hardware stack error"),
    "illegal instruction": cuda_failure(715, "an illegal instruction was encountered"),
    # microsoft/onnxruntime#15981: thrown, so the text is wrapped twice
    "misaligned address": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : "
    f"{_CUDA_CALL}:121 {_THROWN} {_CUDA_CALL}:114 {_THROWN} "
    + _call(
        *("CUDA", 716, "misaligned address"),
        *("cuda_execution_provider.cc:241", "cudaDeviceSynchronize()"),
    ),
    "address space": cuda_failure(717, "operation not supported on global/shared address space"),
    "program counter": cuda_failure(718, "invalid program counter"),
    # C0untFloyd/roop-unleashed#32
    "launch failure": cuda_failure(719, "unspecified launch failure"),
    "external device": cuda_failure(911, "an async error has occurred in external entity"),
}

# may be their own, or what is left of one of those above
ECHOES = {
    # C0untFloyd/roop-unleashed#995
    "cuBLAS": _node(
        "1 : FAIL",
        "Gemm",
        _call("CUBLAS", 13, "CUBLAS_STATUS_EXECUTION_FAILED", "math/gemm.cc:121", "cublasGemm()"),
    ),
    # microsoft/onnxruntime#23497
    "cuDNN": _node(
        "11 : EP_FAIL",
        "Conv",
        _call("CUDNN", 5000, "CUDNN_STATUS_EXECUTION_FAILED", "nn/conv.cc:493", "cudnnAdd()"),
    ),
    # microsoft/onnxruntime#23301
    "cuDNN frontend": _node(
        "11 : EP_FAIL",
        "Conv",
        _call("CUDNN_FE", 11, "CUDNN_BACKEND_API_FAILED", "nn/conv.cc:483", "execute()"),
    ),
    # microsoft/onnxruntime#14211
    "unknown": cuda_failure(999, "unknown error"),
}

NO_MEMORY = {
    "arena": _node(
        "1 : FAIL",
        "Expand",
        f"{_ARENA} Failed to allocate memory for requested buffer of size 8796093022208\n",
    ),
    # infiniflow/ragflow#10295
    "arena at its limit": _node(
        "6 : RUNTIME_EXCEPTION",
        "Conv",
        f"{_ARENA} Available memory of 0 is smaller than requested bytes of 135383040",
    ),
    "arena in pieces": _node(
        "1 : FAIL",
        "Conv",
        f"{_ARENA} Failed to find a free memory block despite calling Extend. rounded_bytes=256",
    ),
    "no arena": _node("6 : RUNTIME_EXCEPTION", "Expand", "std::bad_alloc"),
    # hacksider/Deep-Live-Cam#584
    "CUDA": "[ONNXRuntimeError] : 1 : FAIL : "
    + _call(
        *("CUDA", 2, "out of memory"),
        *("cuda_stream_handle.cc:175", "cudaStreamCreateWithFlags(&stream, 1)"),
    ),
    # fudan-generative-vision/hallo#218
    "cuBLAS": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
    + _call(
        *("CUBLAS", 3, "CUBLAS_STATUS_ALLOC_FAILED"),
        *("cuda_execution_provider.cc:164", "cublasCreate(&cublas_handle_)"),
    ),
    "cuDNN": _node(
        "11 : EP_FAIL",
        "Conv",
        _call(
            *("CUDNN", 4004, "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            *("nn/conv.cc:493", "cudnnConvolutionForward()"),
        ),
    ),
}

ROWS_AT_FAULT = {
    "index": _node(
        "2 : INVALID_ARGUMENT",
        "Gather",
        "indices element out of data bounds, idx=9 must be within the inclusive range [-9,8]",
    ),
    "size": _node(
        "1 : FAIL", "Expand", "op_kernel.cc:87 Calculation for Tensor storage size overflowed"
    ),
    "limit": _node(
        "2 : INVALID_ARGUMENT",
        "Tile",
        "Tile output tensor would require more than 4294967296 bytes",
    ),
}
