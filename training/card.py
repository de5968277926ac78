"""The model card: a recipe, a training run and what was measured, as a manifest's description."""

import shlex
from dataclasses import asdict

from pydantic import JsonValue

from service.repository.manifest import (
    Architecture,
    DataSet,
    Description,
    GraphFiles,
    Layer,
    PcaTwin,
    Preprocessing,
    Quality,
    Training,
)
from service.specs import TensorSpec
from training.checkpoint import Checkpoint
from training.data import mnist
from training.data.photographs import DATA as FOREIGN_DATA
from training.evaluate import Detection
from training.recipe import Recipe

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"

MODEL_LICENCE = (
    "Apache-2.0; the digits in golden.npz and reconstructions.png are MNIST's, CC BY-SA 3.0"
)


def describe(
    recipe: Recipe, checkpoint: Checkpoint, *, layers: list[Layer], split: dict[str, int]
) -> Description:
    """Write down all that is known before anything is measured."""
    return Description(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        description=recipe.description,
        licence=MODEL_LICENCE,
        intended_use=recipe.intended_use,
        not_for=list(recipe.not_for),
        graphs=GraphFiles(encoder=ENCODER_FILE, decoder=DECODER_FILE),
        input=recipe.input,
        code=TensorSpec(recipe.input.dtype, (recipe.code_values,)),
        output=recipe.input,
        preprocessing=Preprocessing(
            description="None in the graph: it takes pixels divided by 255, light ink on black."
        ),
        architecture=_architecture(recipe, checkpoint, layers),
        training=_training(recipe, checkpoint, split),
    )


def _architecture(recipe: Recipe, checkpoint: Checkpoint, layers: list[Layer]) -> Architecture:
    schedule = recipe.schedule
    hyperparameters: dict[str, JsonValue] = {
        "code_values": recipe.code_values,
        "optimizer": "Adam",
        "learning_rate": schedule.learning_rate,
        "learning_rate_schedule": "falls linearly to a thousandth, step by step",
        "batch_rows": schedule.batch_rows,
        "epochs": checkpoint.epochs,
        "kept_epoch": checkpoint.history.best_epoch,
        "seed": checkpoint.seed,
    }
    return Architecture(
        kind=recipe.kind,
        layers=layers,
        parameters=sum(weights.numel() for weights in checkpoint.weights.values()),
        loss="binary cross-entropy per pixel",
        regularisation="none but the short code; the epoch with the lowest validation MSE is kept",
        hyperparameters=hyperparameters,
    )


def _training(recipe: Recipe, checkpoint: Checkpoint, split: dict[str, int]) -> Training:
    return Training(
        command=command(recipe, checkpoint),
        seed=checkpoint.seed,
        seconds=round(checkpoint.history.seconds, 1),
        machine=checkpoint.machine,
        software=checkpoint.software,
        data=[
            DataSet(
                name=f"{mnist.NAME} ({mnist.AUTHORS})",
                source=mnist.SOURCE,
                licence=mnist.LICENCE,
                split=split,
            )
        ],
    )


def command(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """Give the command that trains these weights again."""
    options = {"seed": checkpoint.seed, "threads": checkpoint.threads}
    if checkpoint.epochs != recipe.schedule.epochs:
        options["epochs"] = checkpoint.epochs
    words = [f"--{name} {value}" for name, value in options.items()]
    return f"make train MODEL={recipe.name} ARGS={shlex.quote(' '.join(words))}"


def quality(
    *,
    rows: int,
    mse: float,
    pca: PcaTwin,
    parity: float,
    threshold: float,
    false_positives: float,
    photographs: Detection | None,
) -> Quality:
    """Write down what was measured on the official test images."""
    figures: dict[str, JsonValue] = {
        "threshold_at_false_positive_rate_0.01": threshold,
        "share_of_test_rows_above_threshold": round(false_positives, 6),
    }
    if photographs is not None:
        figures["grey_cut_outs_of_photographs"] = {"data": FOREIGN_DATA, **asdict(photographs)}
    return Quality(
        data=f"{mnist.NAME}, official test images",
        rows=rows,
        mse=mse,
        pca=pca,
        parity_max_difference=parity,
        figures=figures,
    )
