"""The choices of a recipe in words and numbers, for the model card."""

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import JsonValue

from training.checkpoint import Checkpoint
from training.recipe import Blots, Distortion, Objective, Recipe, Schedule, TableRecipe
from training.sources import source_of
from training.tables import STEPS_A_POINT

OF_PIXELS = {"bce": "binary cross-entropy", "mse": "squared error"}


def loss(recipe: Recipe) -> str:
    """Say what is added up."""
    objective = recipe.objective
    parts = [f"{OF_PIXELS[objective.pixels]} per {source_of(recipe).facts.unit}"]
    if objective.sparsity:
        parts.append(f"{objective.sparsity} times the mean magnitude of the code's values")
    if objective.channels:
        parts.append(
            f"{objective.evenness} times how far the {objective.channels} channels of the code are"
            f" from an activity of {objective.activity} (Kullback-Leibler divergence)"
        )
    if objective.clusters:
        parts.append(
            f"{objective.clustering} times the cross-entropy of soft assignments (Student's t)"
            " with the clusters of a net of neighbours"
        )
    return ", plus ".join(parts)


def regularisation(recipe: Recipe) -> str:
    """Say what keeps the network from copying, and which of its weights are kept."""
    objective = recipe.objective
    what = {
        "an L1 penalty on the code": objective.sparsity,
        "a pull of all channels of the code to one activity": objective.channels,
        "noise on the input, which the target lacks": objective.noise,
        "distortions of the input, which the target lacks": objective.distortion,
        "squares over the input, which the target lacks": objective.blots,
        "a pull of the code to cluster centres": objective.clusters,
        "inherited layers that are not trained": recipe.inherits and recipe.inherits.frozen,
    }
    found = [name for name, is_there in what.items() if is_there] or ["none but the short code"]
    return f"{', '.join(found)}; {_kept(recipe)} is kept"


def _kept(recipe: Recipe) -> str:
    if recipe.table is not None:
        return "the last step"
    kept = {"best": "the epoch with the lowest validation MSE", "last": "the last epoch"}
    return kept[recipe.stages[-1].schedule.keep]


def hyperparameters(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, JsonValue]:
    """Give every choice as a number or a word, those of a recipe's stages one after the other."""
    found: dict[str, JsonValue] = {"code_values": recipe.code_values, "optimizer": "Adam"}
    if recipe.table is not None:
        found |= _of_table(recipe.table, checkpoint)
    else:
        found |= _of_stages(recipe, checkpoint)
    return found | {"seed": checkpoint.seed}


def _of_table(table: TableRecipe, checkpoint: Checkpoint) -> dict[str, JsonValue]:
    chosen: dict[str, JsonValue | None] = {
        "learning_rate": table.learning_rate,
        "batch_rows": table.batch_rows,
        "steps": len(checkpoint.history.train_loss) * STEPS_A_POINT,
        "noise_standard_deviation": table.noise,
        "reach_in_standard_deviations": table.reach,
        "blots": _choices(table.blots),
        "learning_rate_schedule": "falls linearly to a hundredth, step by step",
    }
    return _without_gaps(chosen)


def _of_stages(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for number, stage in enumerate(recipe.stages, start=1):
        prefix = "" if len(recipe.stages) == 1 else f"stage_{number}_"
        found |= {f"{prefix}{name}": value for name, value in _of_schedule(stage.schedule).items()}
    found |= _of_objective(recipe.objective)
    found["learning_rate_schedule"] = "falls linearly to a thousandth, step by step"
    if recipe.inherits is not None:
        found["inherits"] = _inheritance(recipe)
    stages = checkpoint.history.stages
    found["epochs_run"] = stages[0] if len(recipe.stages) == 1 else list(stages)
    found["kept_epoch"] = checkpoint.history.kept_epoch
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
        "evenness_weight": objective.evenness or None,
        "channel_activity": objective.activity or None,
        "clusters": objective.clusters or None,
        "clustering_weight": objective.clustering or None,
        "distortion": _choices(objective.distortion),
        "blots": _choices(objective.blots),
    }
    return _without_gaps(chosen)


def _without_gaps(chosen: Mapping[str, JsonValue | None]) -> dict[str, JsonValue]:
    return {name: value for name, value in chosen.items() if value is not None}


def _choices(part: Distortion | Blots | None) -> JsonValue | None:
    return None if part is None else dict(asdict(part))


def _inheritance(recipe: Recipe) -> str:
    taken = recipe.inherits
    assert taken is not None  # noqa: S101 - for the type checker
    kept = "not trained" if taken.frozen else "trained on"
    count = len(taken.encoder) + len(taken.decoder)
    return f"{count} layers of {taken.model}/{taken.version}, {kept}"
