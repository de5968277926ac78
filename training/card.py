"""The model card: a recipe, a training run and what was measured, as a manifest's description."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import JsonValue

from service.repository.manifest import (
    Architecture,
    DataSet,
    Description,
    GraphFiles,
    InnerTensor,
    PcaTwin,
    Preprocessing,
    Quality,
    Training,
)
from service.specs import TensorSpec
from training.checkpoint import Checkpoint
from training.data import mnist
from training.data.photographs import DATA as FOREIGN_DATA
from training.layers import Place
from training.measures import Detection
from training.recipe import Distortion, Objective, Recipe, Schedule
from training.targets import missed

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"

MODEL_LICENCE = "Apache-2.0; the digits in golden.npz and in the pictures are MNIST's, CC BY-SA 3.0"
OF_PIXELS = {"bce": "binary cross-entropy per pixel", "mse": "squared error per pixel"}


def describe(
    recipe: Recipe, checkpoint: Checkpoint, *, layers: Sequence[Place], split: dict[str, int]
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
        graphs=GraphFiles(encoder=ENCODER_FILE, decoder=DECODER_FILE, **_code_output(recipe)),
        input=recipe.input,
        code=TensorSpec(recipe.input.dtype, (recipe.code_values,)),
        output=recipe.input,
        layers={place.layer.name: place.tensor for place in layers if place.is_inner},
        further_outputs=_further_outputs(recipe),
        preprocessing=Preprocessing(
            description="None in the graph: it takes pixels divided by 255, light ink on black."
        ),
        architecture=_architecture(recipe, checkpoint, layers),
        training=_training(recipe, checkpoint, split),
    )


def _code_output(recipe: Recipe) -> dict[str, str]:
    """An encoder that gives more than the code says which of its outputs the code is."""
    return {"code_output": "code"} if recipe.objective.clusters else {}


def _further_outputs(recipe: Recipe) -> dict[str, InnerTensor]:
    if not recipe.objective.clusters:
        return {}
    return {"cluster": InnerTensor(file="encoder", tensor="cluster", dtype="int64", shape=())}


def _architecture(recipe: Recipe, checkpoint: Checkpoint, layers: Sequence[Place]) -> Architecture:
    return Architecture(
        kind=recipe.kind,
        layers=[place.layer for place in layers],
        parameters=sum(weights.numel() for weights in checkpoint.weights.values()),
        loss=_loss(recipe.objective),
        regularisation=_regularisation(recipe),
        hyperparameters=hyperparameters(recipe, checkpoint),
    )


def _loss(objective: Objective) -> str:
    """Say what is added up."""
    parts = [OF_PIXELS[objective.pixels]]
    if objective.sparsity:
        parts.append(f"{objective.sparsity} times the mean magnitude of the code's values")
    if objective.clusters:
        parts.append(
            f"{objective.clustering} times the cross-entropy of soft assignments (Student's t)"
            " with the clusters of a net of neighbours"
        )
    return ", plus ".join(parts)


def _regularisation(recipe: Recipe) -> str:
    objective = recipe.objective
    what = {
        "an L1 penalty on the code": objective.sparsity,
        "noise on the input, which the target lacks": objective.noise,
        "distortions of the input, which the target lacks": objective.distortion,
        "a pull of the code to cluster centres": objective.clusters,
        "inherited layers that are not trained": recipe.inherits and recipe.inherits.frozen,
    }
    found = [name for name, is_there in what.items() if is_there] or ["none but the short code"]
    kept = {"best": "the epoch with the lowest validation MSE", "last": "the last epoch"}
    return f"{', '.join(found)}; {kept[recipe.stages[-1].schedule.keep]} is kept"


def hyperparameters(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, JsonValue]:
    """Give every choice as a number or a word, those of a recipe's stages one after the other."""
    found: dict[str, JsonValue] = {"code_values": recipe.code_values, "optimizer": "Adam"}
    for number, stage in enumerate(recipe.stages, start=1):
        prefix = "" if len(recipe.stages) == 1 else f"stage_{number}_"
        found |= {f"{prefix}{name}": value for name, value in _of_schedule(stage.schedule).items()}
    found |= _of_objective(recipe.objective)
    found["learning_rate_schedule"] = "falls linearly to a thousandth, step by step"
    if recipe.inherits is not None:
        found["inherits"] = _inheritance(recipe)
    found |= {
        "epochs_run": checkpoint.history.stages[0]
        if len(recipe.stages) == 1
        else list(checkpoint.history.stages),
        "kept_epoch": checkpoint.history.kept_epoch,
        "seed": checkpoint.seed,
    }
    return found


def _of_schedule(schedule: Schedule) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {
        "learning_rate": schedule.learning_rate,
        "batch_rows": schedule.batch_rows,
        "epochs": schedule.epochs,
    }
    if schedule.patience < schedule.epochs:
        found["patience_epochs"] = schedule.patience
    return found


def _of_objective(objective: Objective) -> dict[str, JsonValue]:
    """Give what counts beside the pixels."""
    chosen: dict[str, JsonValue | None] = {
        "noise_standard_deviation": objective.noise or None,
        "sparsity_penalty": objective.sparsity or None,
        "clusters": objective.clusters or None,
        "clustering_weight": objective.clustering or None,
        "distortion": _distortion(objective.distortion),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _distortion(distortion: Distortion | None) -> JsonValue | None:
    return None if distortion is None else dict(asdict(distortion))


def _inheritance(recipe: Recipe) -> str:
    taken = recipe.inherits
    assert taken is not None  # noqa: S101 - for the type checker
    kept = "not trained" if taken.frozen else "trained on"
    count = len(taken.encoder) + len(taken.decoder)
    return f"{count} layers of {taken.model}/{taken.version}, {kept}"


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
    if checkpoint.epochs is not None:
        options["epochs"] = checkpoint.epochs
    words = [f"--{name} {value}" for name, value in options.items()]
    return f"make train MODEL={recipe.name} ARGS={shlex.quote(' '.join(words))}"


def quality(
    model: str,
    found: dict[str, float],
    *,
    rows: int,
    components: int,
    parity: float,
    photographs: Detection | None,
    comparison: dict[str, list[float]],
) -> Quality:
    """Write down what was measured on the official test images.

    Args:
        model: Its name; what it misses of its targets is written down as well.
        found: As ``training.figures`` gives it.
        rows: Test rows.
        components: Values of the code, and of its PCA twin.
        parity: Largest difference of the exported graphs from the network.
        photographs: How many foreign pictures the threshold finds.
        comparison: Errors of the recipe and its rivals, by seed.
    """
    figures: dict[str, JsonValue] = {
        name: value for name, value in found.items() if name not in {"mse", "pca_mse"}
    }
    if photographs is not None:
        figures["grey_cut_outs_of_photographs"] = {"data": FOREIGN_DATA, **asdict(photographs)}
    if comparison:
        figures["test_mse_by_seed"] = {name: list(errors) for name, errors in comparison.items()}
    if shortfalls := missed(model, found):
        figures["target_missed"] = dict(shortfalls)
    return Quality(
        data=f"{mnist.NAME}, official test images",
        rows=rows,
        mse=found["mse"],
        pca=PcaTwin(components=components, mse=found["pca_mse"]) if "pca_mse" in found else None,
        parity_max_difference=parity,
        figures=figures,
    )
