"""The autoencoder of Stable Diffusion, small and with random weights, exported by Optimum.

``optimum-cli export onnx`` takes whole pipelines with their text encoders; this is the part of it
that exports the autoencoder, with the same two forward functions and the same configurations.
"""

import copy
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL
from optimum.exporters.onnx import export_models
from optimum.exporters.onnx.model_configs import VaeDecoderOnnxConfig, VaeEncoderOnnxConfig

from tests.interop.case import Case, folder_of, rows_like

# an eighth of it is the size of a code; other sizes come as pictures
SMALL = (3, 16, 24)
PICTURE = (64, 96)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=64,
    ).eval()
    place = folder_of("optimum-vae", folder)
    _export(vae, place)
    rows = torch.from_numpy(rows_like(*SMALL) * 2 - 1)
    picture = _picture()
    with torch.inference_mode():
        code = vae.encode(rows).latent_dist.mode()
        decoded = vae.decode(code).sample
        pixels = torch.from_numpy(picture / np.float32(255)).permute(2, 0, 1)[None] * 2 - 1
        answer = vae.decode(vae.encode(pixels).latent_dist.mode()).sample[0]
    # as diffusers.image_processor makes a picture, but for the rounding to whole numbers
    values = (answer / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255
    Case(
        "optimum-vae",
        f"diffusers {diffusers.__version__}, optimum-onnx {version('optimum-onnx')}",
        [
            *("--encoder", "vae_encoder/model.onnx", "--decoder", "vae_decoder/model.onnx"),
            *("--image", "RGB", "--range", "-1,1"),
        ],
        answers={
            "rows": rows.numpy(),
            "code": code.numpy(),
            "decoded": decoded.numpy(),
            "reconstruction": decoded.numpy(),
            "picture": picture,
            "picture_values": values,
        },
        width=2.0,
    ).write(place)


def _export(vae: AutoencoderKL, place: Path) -> None:
    encoder, decoder = copy.deepcopy(vae), copy.deepcopy(vae)
    encoder.forward = lambda sample: {
        "latent_parameters": encoder.encode(x=sample)["latent_dist"].parameters
    }
    decoder.forward = lambda latent_sample: decoder.decode(z=latent_sample)
    task = "semantic-segmentation"
    export_models(
        {
            "vae_encoder": (encoder, VaeEncoderOnnxConfig(encoder.config, task=task)),
            "vae_decoder": (decoder, VaeDecoderOnnxConfig(decoder.config, task=task)),
        },
        place,
        output_names=["vae_encoder/model.onnx", "vae_decoder/model.onnx"],
    )


def _picture() -> Any:
    """Give colours that change across the picture."""
    rows, columns = np.mgrid[: PICTURE[0], : PICTURE[1]]
    return np.stack([rows * 4 % 256, columns * 2, (rows + columns) % 256], axis=2).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
