"""``mnist-dense-2``, ``-16`` and ``-32``: the plain undercomplete autoencoder, at three code sizes.

Nothing but a code shorter than the picture keeps it from copying. Two values can be drawn as a
map, 32 are what the convolutional model has, and 16 shows what lies between.
"""

from dataclasses import replace
from functools import partial

from training.networks import dense
from training.recipe import Objective, Recipe, Schedule, Stage
from training.recipes.digits import HOLD_OUT, INPUT, INTENDED_USE, NOT_FOR, SHAPE


def recipe(code: int, widths: tuple[int, ...], *schedules: Schedule) -> Recipe:
    return Recipe(
        name=f"mnist-dense-{code}",
        version=1,
        kind="undercomplete",
        title=f"Handwritten digits, fully connected, code of {code} values",
        description=(
            f"Encodes a grey picture of a handwritten digit (28x28, white on black) as {code}"
            " numbers and draws it again from them, with fully connected layers alone."
        ),
        intended_use=INTENDED_USE,
        not_for=NOT_FOR,
        input=INPUT,
        code_values=code,
        network=partial(dense, SHAPE, widths, code),
        stages=tuple(Stage(schedule) for schedule in schedules),
        hold_out=HOLD_OUT,
    )


def with_squared_error(recipe: Recipe) -> Recipe:
    """The same but for the loss, for a comparison on the card."""
    objective = Objective(pixels="mse")
    return replace(
        recipe, stages=tuple(replace(stage, objective=objective) for stage in recipe.stages)
    )


CODE_2 = recipe(2, (256, 128, 64), Schedule(epochs=35, batch_rows=128, learning_rate=2e-3))

# the learning rate falls and rises again: each fall ends lower than one of their joint length
TWENTY = Schedule(epochs=20, batch_rows=128, learning_rate=2e-3)
AGAIN = replace(TWENTY, learning_rate=1.5e-3)
CODE_16 = recipe(16, (256, 128), TWENTY, AGAIN, AGAIN)
CODE_16 = replace(
    CODE_16,
    rivals={"squared error as the loss": with_squared_error(CODE_16)},
    rival_seeds=(0,),
    tried=(
        "a single fall of the learning rate over 20 epochs (validation MSE 0.0097)",
        "squared error as the loss, as below",
    ),
)

THIRTY = Schedule(epochs=30, batch_rows=128, learning_rate=2e-3)
CODE_32 = recipe(32, (256, 128), THIRTY, THIRTY, replace(THIRTY, epochs=20, learning_rate=1.5e-3))

RECIPES = [
    CODE_2,
    CODE_16,
    replace(
        CODE_32,
        tried=("a single fall of the learning rate over 30 epochs (validation MSE 0.0060)",),
    ),
]
