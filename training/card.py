"""The model card: a recipe, a training run and what was measured, as a manifest's description."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace

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
from training.choices import hyperparameters, loss, regularisation
from training.data.photographs import DATA as FOREIGN_DATA
from training.figures import DETECTING
from training.layers import Place
from training.measures import Detection
from training.recipe import Recipe
from training.sources import source_of
from training.targets import missed

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"

DEVIATION = "encoder.0.deviation"  # of the columns, among the weights of a network that has it
CONSTANTS = (".middle", ".deviation")  # what a graph holds beside learned numbers


def describe(
    recipe: Recipe, checkpoint: Checkpoint, *, layers: Sequence[Place], split: dict[str, int]
) -> Description:
    """Write down all that is known before anything is measured."""
    facts, rows = source_of(recipe).facts, _row(recipe, checkpoint)
    return Description(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        description=recipe.description,
        licence=facts.model_licence,
        intended_use=recipe.intended_use,
        not_for=list(recipe.not_for),
        graphs=GraphFiles(encoder=ENCODER_FILE, decoder=DECODER_FILE, **_code_output(recipe)),
        input=rows,
        code=TensorSpec(rows.dtype, (recipe.code_values,)),
        output=rows,
        layers={place.layer.name: place.tensor for place in layers if place.is_inner},
        further_outputs=_further_outputs(recipe),
        preprocessing=Preprocessing(description=facts.preprocessing),
        architecture=_architecture(recipe, checkpoint, layers),
        training=_training(recipe, checkpoint, split),
    )


def _row(recipe: Recipe, checkpoint: Checkpoint) -> TensorSpec:
    """Give the recipe's row; a table's errors are divided by the deviations that were learned."""
    if DEVIATION not in checkpoint.weights:
        return recipe.input
    return replace(recipe.input, scale=tuple(checkpoint.weights[DEVIATION].tolist()))


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
        parameters=sum(
            weights.numel()
            for name, weights in checkpoint.weights.items()
            if not name.endswith(CONSTANTS)
        ),
        loss=loss(recipe),
        regularisation=regularisation(recipe),
        hyperparameters=hyperparameters(recipe, checkpoint),
    )


def _training(recipe: Recipe, checkpoint: Checkpoint, split: dict[str, int]) -> Training:
    facts = source_of(recipe).facts
    return Training(
        command=command(recipe, checkpoint),
        seed=checkpoint.seed,
        seconds=round(checkpoint.history.seconds, 1),
        machine=checkpoint.machine,
        software=checkpoint.software,
        data=[DataSet(name=facts.data, source=facts.address, licence=facts.licence, split=split)],
    )


def command(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """Give the command that trains these weights again."""
    options = {"seed": checkpoint.seed, "threads": checkpoint.threads}
    if checkpoint.epochs is not None:
        options["epochs"] = checkpoint.epochs
    words = [f"--{name} {value}" for name, value in options.items()]
    return f"make train MODEL={recipe.name} ARGS={shlex.quote(' '.join(words))}"


def quality(
    recipe: Recipe,
    found: dict[str, float],
    *,
    rows: int,
    parity: float,
    photographs: Detection | None,
    comparison: dict[str, list[float]],
) -> Quality:
    """Write down what was measured on the test rows.

    Args:
        recipe: What its model misses of its targets is written down as well, and what was tried.
        found: As ``training.figures`` gives it.
        rows: Test rows.
        parity: Largest difference of the exported graphs from the network.
        photographs: How many foreign pictures the threshold finds.
        comparison: Errors of the recipe and its rivals, by seed.
    """
    figures: dict[str, JsonValue] = {
        name: value for name, value in found.items() if name not in {"mse", "pca_mse"}
    }
    if recipe.kind == DETECTING:
        figures["default_measure"] = recipe.default_measure
    if photographs is not None:
        figures["grey_cut_outs_of_photographs"] = {"data": FOREIGN_DATA, **asdict(photographs)}
    if comparison:
        figures["test_mse_by_seed"] = {name: list(errors) for name, errors in comparison.items()}
    if shortfalls := missed(recipe.name, found):
        figures["target_missed"] = dict(shortfalls)
        figures["tried"] = list(recipe.tried)
    return Quality(
        data=source_of(recipe).facts.test,
        rows=rows,
        mse=found["mse"],
        pca=_twin(recipe, found),
        parity_max_difference=parity,
        figures=figures,
    )


def _twin(recipe: Recipe, found: dict[str, float]) -> PcaTwin | None:
    if "pca_mse" not in found:
        return None
    return PcaTwin(components=recipe.code_values, mse=found["pca_mse"])
