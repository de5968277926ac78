"""What whole messages of ONNX Runtime are taken for; they are in ``tests/messages.py``."""

import logging

import pytest

from service.errors import AllocationError, DeviceLostError, InferenceError
from service.inference.failures import translated
from tests.messages import ECHOES, FINAL, NO_MEMORY, ROWS_AT_FAULT, cuda_failure


def well():
    return None


def meaning_of(text, find_fault=well):
    return translated(RuntimeError(text), find_fault)


def never():
    raise AssertionError("the device was tried although the error says enough")


@pytest.mark.parametrize("text", FINAL.values(), ids=FINAL)
def test_an_error_that_cuda_calls_final_is_the_loss_of_the_device(text, caplog):
    meaning = meaning_of(text, never)

    assert isinstance(meaning, DeviceLostError)
    assert caplog.records[0].levelno == logging.CRITICAL
    assert "CUDA says so" in caplog.records[0].message
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("code", [2, 70, 1, 98, 209, 900, 999, 7000])
def test_other_codes_of_cuda_are_not_final(code):
    assert not isinstance(meaning_of(cuda_failure(code)), DeviceLostError)


@pytest.mark.parametrize("library", ["CUBLAS", "CUDNN", "CUFFT"])
def test_a_code_counts_only_where_it_is_one_of_cuda(library):
    text = FINAL["launch failure"].replace("CUDA failure", f"{library} failure")

    assert type(meaning_of(text)) is InferenceError


@pytest.mark.parametrize("text", ECHOES.values(), ids=ECHOES)
def test_what_a_library_reports_is_a_failed_run_while_the_device_is_well(text):
    assert type(meaning_of(text)) is InferenceError


@pytest.mark.parametrize("text", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("fault", [FINAL["illegal address"], ECHOES["cuBLAS"]])
def test_what_a_library_reports_is_the_loss_of_a_device_that_fails_a_tiny_graph(
    text, fault, caplog
):
    assert isinstance(meaning_of(text, lambda: fault), DeviceLostError)
    assert "a tiny graph fails there too" in caplog.text


@pytest.mark.parametrize("text", ECHOES.values(), ids=ECHOES)
def test_a_library_that_fails_where_memory_is_short_lacks_memory(text):
    assert isinstance(meaning_of(text, lambda: NO_MEMORY["CUDA"]), AllocationError)


@pytest.mark.parametrize("text", NO_MEMORY.values(), ids=NO_MEMORY)
@pytest.mark.parametrize("fault", [None, NO_MEMORY["arena"], ECHOES["cuBLAS"]])
def test_a_lack_of_memory_is_no_loss_even_if_a_tiny_graph_fails_for_it(text, fault, caplog):
    meaning = meaning_of(text, lambda: fault)

    assert isinstance(meaning, AllocationError)
    assert not caplog.records


def test_an_arena_that_took_a_broken_device_for_a_lack_of_memory_is_seen_through():
    meaning = meaning_of(NO_MEMORY["arena"], lambda: FINAL["illegal address"])

    assert isinstance(meaning, DeviceLostError)


def test_a_copy_that_finds_no_memory_is_a_lack_of_memory():
    error = MemoryError("Unable to allocate 8.00 TiB for an array")

    assert isinstance(translated(error, well), AllocationError)


@pytest.mark.parametrize("text", ROWS_AT_FAULT.values(), ids=ROWS_AT_FAULT)
def test_anything_else_is_a_matter_of_the_rows(text):
    assert type(meaning_of(text, never)) is InferenceError


@pytest.mark.parametrize("text", [*FINAL.values(), *ECHOES.values(), *NO_MEMORY.values()])
def test_the_runtimes_own_text_is_kept_from_the_client(text):
    meaning = meaning_of(text)

    assert "ONNXRuntime" not in str(meaning)
    assert "GPU" not in str(meaning)
