"""Which device a model gets, and how it is used: the settings, then the manifest's own word."""

import logging
from dataclasses import asdict, replace
from typing import Final

from service.errors import DeviceUnavailableError
from service.grants import usable_cores
from service.inference.providers import Device, DeviceOptions, choose_device, cuda_fault
from service.repository.manifest import Manifest, RuntimeOptions
from service.settings import Settings, Threads

logger = logging.getLogger(__name__)

_NOTHING_ELSE: Final = RuntimeOptions()


def server_device(settings: Settings) -> Device:
    """Settle on the device of a server, one that was seen to work.

    Raises:
        DeviceUnavailableError: ``cuda`` was asked for and does not work here.
    """
    options = DeviceOptions(
        intra_op_threads=_threads(settings.intra_op_threads),
        cuda_memory_limit_mib=settings.cuda_memory_limit_mib,
        cuda_arena_extend=settings.cuda_arena_extend,
        cuda_conv_search=settings.cuda_conv_search,
        cuda_tf32=settings.cuda_tf32,
        cuda_prefer_nhwc=settings.cuda_prefer_nhwc,
    )
    return choose_device(settings.device, settings.device_id, options)


def device_for(manifest: Manifest, device: Device) -> Device:
    """Give the device of a model: the server's, in all that the manifest leaves open.

    On a server that uses the CPU the model does too, whichever GPU its manifest names.

    Raises:
        DeviceUnavailableError: The manifest names a GPU that does not work here.
    """
    wanted = manifest.runtime or _NOTHING_ELSE
    chosen = replace(device, options=_options_for(manifest, wanted, device))
    if device.kind == "cpu" or wanted.device_id in {None, device.index}:
        return chosen
    chosen = replace(chosen, index=wanted.device_id)
    fault = cuda_fault(chosen)
    if fault is not None:
        raise DeviceUnavailableError(f"the manifest asks for {chosen}, which fails: {fault}")
    return chosen


def _options_for(manifest: Manifest, wanted: RuntimeOptions, device: Device) -> DeviceOptions:
    own = wanted.model_dump(exclude={"device_id"}, exclude_none=True)
    if wanted.intra_op_threads is not None:
        own["intra_op_threads"] = _threads(wanted.intra_op_threads)
    options = DeviceOptions(**(asdict(device.options) | own))
    if options.cuda_tf32 and manifest.calibration is not None:
        if device.kind == "cuda":
            name = f"{manifest.name}/{manifest.version}"
            logger.warning("TF32 stays off for %s: its scores are calibrated without", name)
        options = replace(options, cuda_tf32=False)
    return options


def _threads(wanted: Threads) -> int:
    """Count the threads of a run; ``auto`` leaves HTTP a core of its own."""
    return max(1, usable_cores() - 1) if wanted == "auto" else wanted
