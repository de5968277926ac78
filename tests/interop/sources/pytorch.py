"""Exports from PyTorch, by both of its exporters."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from tests.interop.case import Case, folder_of, rows_like
from tests.interop.sources import recipe_torch, torch_networks as networks

EXPORTERS = {"dynamo": True, "torchscript": False}
ROWS = {"table": rows_like(networks.FEATURES), "picture": rows_like(*networks.PICTURE)}
RANGE = ["--range", "0,1"]


def main(folder: Path) -> None:
    # the exporters warn of their own use of torch, and the tracer of every Python number
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for exporter in EXPORTERS:
        halves(folder, f"torch-dense-{exporter}", networks.dense, exporter)
        whole(folder, f"torch-conv-{exporter}", networks.convolutional, exporter)
        moments(folder, f"torch-moments-{exporter}", exporter)
        variational(folder, f"torch-vae-{exporter}", exporter)
    halves(folder, "torch-vq", networks.vector_quantised, kind="picture")
    halves(folder, "torch-transposed", networks.transposed, kind="picture")
    unet(folder, "torch-unet")
    halves(folder, "torch-fixed-1", networks.dense, batch=1, says=["was fixed at 1"])
    halves(folder, "torch-fixed-4", networks.dense, batch=4, says=["was fixed at 4"])
    # the other exporter says that the axis is fixed, and the recipe refuses it
    halves(
        folder,
        "torch-baked",
        networks.flattened,
        "torchscript",
        kind="picture",
        says=["was fixed at 2"],
    )
    halves(folder, "torch-float64", networks.dense, dtype=torch.float64)
    halves(
        folder,
        "torch-float16",
        networks.dense,
        dtype=torch.float16,
        tolerance=2e-3,
        why="two units in the last place of float16, which torch rounds after every layer",
    )
    halves(
        folder, "torch-external", networks.dense, external_data=True, says=["weights were taken in"]
    )
    halves(
        folder,
        "torch-opset-11",
        networks.dense,
        "torchscript",
        opset_version=11,
        says=["opset 11 was brought up"],
    )


def halves(
    folder: Path,
    name: str,
    make: Any,
    exporter: str = "dynamo",
    *,
    kind: str = "table",
    dtype: torch.dtype = torch.float32,
    batch: int | None = None,
    tolerance: float = 1e-5,
    why: str = "",
    says: Sequence[str] = (),
    **options: Any,
) -> None:
    """Write an encoder and a decoder, as two files.

    Args:
        batch: Fixed size of the batch; free without it.
        tolerance: Of the case, with the reason *why*.
        says: What the import must tell.
        options: Of ``torch.onnx.export``.
    """
    network = _seeded(make).to(dtype)
    rows = torch.from_numpy(ROWS[kind]).to(dtype)
    with torch.inference_mode():
        code = network.encoder(rows)
        decoded = network.decoder(code)
    place = folder_of(name, folder)
    for half, given, source, target in (
        ("encoder", rows, "input", "code"),
        # the exporters take no tensors of the inference mode
        ("decoder", code.clone(), "code", "reconstruction"),
    ):
        _export(
            getattr(network, half),
            given[: batch or 2],
            place / f"{half}.onnx",
            exporter,
            source=source,
            targets=[target],
            is_fixed=batch is not None,
            **options,
        )
    Case(
        name,
        _exporter(exporter, **options),
        ["--encoder", "encoder.onnx", "--decoder", "decoder.onnx", *RANGE],
        answers=_arrays(rows=rows, code=code, decoded=decoded, reconstruction=decoded),
        tolerance=tolerance,
        why=why,
        says=list(says),
    ).write(place)


def whole(folder: Path, name: str, make: Any, exporter: str) -> None:
    """Write one file in which the code is an inner tensor."""
    network = _seeded(make)
    rows = torch.from_numpy(ROWS["picture"])
    with torch.inference_mode():
        code = network.encoder(rows)
        decoded = network.decoder(code)
    place = folder_of(name, folder)
    file = place / "autoencoder.onnx"
    _export(network, rows[:2], file, exporter, source="input", targets=["reconstruction"])
    Case(
        name,
        _exporter(exporter),
        [file.name, "--code", _code_tensor(file), "--image", "L", *RANGE],
        answers=_arrays(rows=rows, code=code, decoded=decoded, reconstruction=decoded),
    ).write(place)


def moments(folder: Path, name: str, exporter: str) -> None:
    """Write a variational encoder with two outputs, and its decoder."""
    network = _seeded(networks.Variational)
    rows = torch.from_numpy(ROWS["table"])
    with torch.inference_mode():
        mean, _ = network.encoder(rows)
        decoded = network.decoder(mean)
    place = folder_of(name, folder)
    outputs = ["mean", "log_variance"]
    encoder, decoder = place / "encoder.onnx", place / "decoder.onnx"
    _export(network.encoder, rows[:2], encoder, exporter, source="input", targets=outputs)
    _export(network.decoder, mean[:2].clone(), decoder, exporter, source="code", targets=["output"])
    Case(
        name,
        _exporter(exporter),
        [
            *("--encoder", "encoder.onnx", "--decoder", "decoder.onnx", "--code-output", "mean"),
            *RANGE,
        ],
        answers=_arrays(rows=rows, code=mean, decoded=decoded, reconstruction=decoded),
    ).write(place)


def variational(folder: Path, name: str, exporter: str) -> None:
    """Write a whole variational autoencoder in evaluation mode, with its three outputs."""
    network = _seeded(networks.Variational)
    rows = torch.from_numpy(ROWS["table"])
    with torch.inference_mode():
        decoded, mean, _ = network(rows)
    place = folder_of(name, folder)
    outputs = ["reconstruction", "mean", "log_variance"]
    file = place / "vae.onnx"
    _export(network, rows[:2], file, exporter, source="input", targets=outputs)
    Case(
        name,
        _exporter(exporter),
        [file.name, "--output", "reconstruction", "--code", "mean", *RANGE],
        answers=_arrays(rows=rows, code=mean, decoded=decoded, reconstruction=decoded),
    ).write(place)


def unet(folder: Path, name: str) -> None:
    """Write a network with a connection around its narrow part: nothing can be decoded."""
    network = _seeded(networks.UNet)
    rows = torch.from_numpy(ROWS["picture"])
    with torch.inference_mode():
        decoded = network(rows)
    place = folder_of(name, folder)
    file = place / "unet.onnx"
    _export(network, rows[:2], file, "dynamo", source="input", targets=["output"])
    Case(
        name,
        _exporter("dynamo"),
        [file.name, "--no-code", "--image", "L", *RANGE],
        answers=_arrays(rows=rows, reconstruction=decoded),
    ).write(place)


def _seeded(make: Any) -> Any:
    torch.manual_seed(0)
    network = make().eval()
    for part in network.modules():
        # fresh ones have mean 0 and variance 1, and a graph without them would not be noticed
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return network


def _export(
    module: nn.Module,
    example: torch.Tensor,
    file: Path,
    exporter: str,
    *,
    source: str,
    targets: list[str],
    is_fixed: bool = False,
    **options: Any,
) -> None:
    is_dynamo = EXPORTERS[exporter]
    if is_dynamo and not is_fixed and len(targets) == 1 and not options:
        recipe_torch.export(module, example, file, source=source, target=targets[0])
        return
    if not is_fixed and is_dynamo:
        options["dynamic_shapes"] = ({0: torch.export.Dim("rows", min=1)},)
    elif not is_fixed:
        options["dynamic_axes"] = {name: {0: "rows"} for name in (source, *targets)}
    torch.onnx.export(
        module,
        (example,),
        file,
        input_names=[source],
        output_names=targets,
        dynamo=is_dynamo,
        **({"opset_version": 18, "external_data": False} | options),
    )


def _code_tensor(file: Path) -> str:
    """Name the code of ``convolutional``: what its encoder's last layer gives."""
    graph = onnx.load(file).graph
    return next(str(node.output[0]) for node in graph.node if node.op_type == "Gemm")


def _exporter(exporter: str, **options: Any) -> str:
    extra = "".join(f", {name}={value}" for name, value in options.items())
    return f"torch {torch.__version__.split('+')[0]}, dynamo={EXPORTERS[exporter]}{extra}"


def _arrays(**tensors: torch.Tensor) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
