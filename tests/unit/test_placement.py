"""What decides how a model is run: the settings, then its manifest."""

import logging
from dataclasses import fields
from typing import Any

import pytest

from service.errors import DeviceUnavailableError
from service.grants import usable_cores
from service.inference.providers import Device, DeviceOptions, cuda_fault
from service.placement import device_for, server_device
from service.repository.manifest import Manifest, RuntimeOptions
from service.settings import Settings

SHA = "0" * 64
OPTIONS: list[str] = [field.name for field in fields(DeviceOptions)]
# every option, each with another value than its default
OTHER: dict[str, Any] = {
    "intra_op_threads": 3,
    "cuda_memory_limit_mib": 512,
    "cuda_arena_extend": "next_power_of_two",
    "cuda_conv_search": "exhaustive",
    "cuda_tf32": True,
    "cuda_prefer_nhwc": True,
}


def manifest(*, is_calibrated=False, **runtime):
    names = ["encoder.onnx", "decoder.onnx", "calibration.npz"]
    spec = {"dtype": "float32", "shape": [4]}
    calibration = {"file": "calibration.npz", "data": "rows", "rows": 99}
    return Manifest.model_validate(
        {
            "name": "ecg",
            "version": 7,
            "graphs": {"encoder": "encoder.onnx", "decoder": "decoder.onnx"},
            "input": spec,
            "code": spec,
            "output": spec,
            "files": {name: {"sha256": SHA, "bytes": 1} for name in names},
            "calibration": calibration if is_calibrated else None,
            "runtime": runtime or None,
        }
    )


def test_every_option_of_a_device_is_a_setting_and_a_word_of_the_manifest():
    assert set(OPTIONS) <= set(Settings.model_fields)
    assert set(OPTIONS) | {"device_id"} == set(RuntimeOptions.model_fields)
    assert set(OPTIONS) == set(OTHER)


def test_the_defaults_of_server_and_device_are_the_same():
    assert server_device(Settings(device="cpu")) == Device()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_setting_holds_for_the_servers_device(name):
    device = server_device(Settings(**{"device": "cpu", name: OTHER[name]}))

    assert getattr(device.options, name) == OTHER[name]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_manifest_overrides_one_option_and_leaves_the_others(name):
    server = Device("cuda", 1, DeviceOptions(**{**OTHER, name: getattr(DeviceOptions(), name)}))

    device = device_for(manifest(**{name: OTHER[name]}), server)

    assert (device.kind, device.index) == ("cuda", 1)
    assert device.options == DeviceOptions(**OTHER)


def test_a_manifest_can_take_an_option_back():
    server = Device("cuda", 0, DeviceOptions(cuda_prefer_nhwc=True, cuda_memory_limit_mib=9))

    device = device_for(manifest(cuda_prefer_nhwc=False, cuda_memory_limit_mib=0), server)

    assert device.options == DeviceOptions()


def test_without_a_word_in_the_manifest_a_model_gets_the_servers_device():
    server = Device("cuda", 2, DeviceOptions(**OTHER))

    assert device_for(manifest(), server) == server


def test_tf32_is_off_where_scores_are_calibrated_and_the_log_says_so(caplog):
    caplog.set_level(logging.INFO)
    server = Device("cuda", 0, DeviceOptions(cuda_tf32=True))

    device = device_for(manifest(is_calibrated=True), server)

    assert not device.options.cuda_tf32
    assert "TF32 stays off for ecg/7" in caplog.text


def test_where_tf32_was_not_asked_for_nothing_is_said(caplog):
    caplog.set_level(logging.INFO)
    device_for(manifest(is_calibrated=True), Device("cuda"))
    device_for(manifest(is_calibrated=True), Device(options=DeviceOptions(cuda_tf32=True)))

    assert not caplog.records


def test_on_a_server_that_uses_the_cpu_the_gpu_of_a_manifest_means_nothing():
    assert device_for(manifest(device_id=3), Device()) == Device()


def test_the_gpu_of_the_server_needs_no_second_trial():
    assert device_for(manifest(device_id=1), Device("cuda", 1)) == Device("cuda", 1)


def test_another_gpu_is_refused_where_it_does_not_work():
    with pytest.raises(DeviceUnavailableError, match="the manifest asks for cuda:99"):
        device_for(manifest(device_id=99), Device("cuda", 0))


@pytest.mark.gpu
@pytest.mark.skipif(
    cuda_fault(Device("cuda", 1)) is not None, reason=f"no second GPU: {cuda_fault(Device('cuda'))}"
)
def test_another_gpu_is_taken_where_it_works():
    assert str(device_for(manifest(device_id=1), Device("cuda", 0))) == "cuda:1"


def test_threads_by_themselves_leave_a_core_to_http():
    automatic = server_device(Settings(device="cpu", intra_op_threads="auto"))
    own = device_for(manifest(intra_op_threads="auto"), Device(options=DeviceOptions(**OTHER)))

    assert automatic.options.intra_op_threads == max(1, usable_cores() - 1)
    assert own.options.intra_op_threads == max(1, usable_cores() - 1)
