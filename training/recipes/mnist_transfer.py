"""``mnist-transfer``: 500 digits, and an encoder that has seen others before.

The encoder comes from ``mnist-conv``; the decoder begins anew and both learn from 500 digits.
Beside it stands the same network that began with nothing.
"""

from dataclasses import replace

from training.recipe import Inheritance, Recipe, Schedule, Stage
from training.recipes import mnist_conv

ROWS = 500

RECIPE = Recipe(
    name="mnist-transfer",
    version=1,
    kind="transfer",
    title="Handwritten digits, from 500 of them and an inherited encoder",
    description=(
        "Encodes a grey picture of a handwritten digit (28x28, white on black) as 32 numbers and"
        f" draws it again from them. Trained on {ROWS} digits alone, with the encoder of"
        " mnist-conv to begin with."
    ),
    intended_use=(
        "An example of what layers of one model are worth to another when there are few rows to"
        " train on. mnist-conv saw the same kind of digits, the 500 among them, so this is"
        " the best case of such an inheritance."
    ),
    not_for=(
        "Anything for which mnist-conv could be used: it is better.",
        *mnist_conv.RECIPE.not_for,
    ),
    input=mnist_conv.RECIPE.input,
    code_values=mnist_conv.SIZES.code,
    network=mnist_conv.network,
    # the last epoch and not the best: choosing it would need more digits than the 500
    stages=(
        Stage(Schedule(epochs=40, batch_rows=50, learning_rate=2e-3, patience=40, keep="last")),
    ),
    hold_out=mnist_conv.RECIPE.hold_out,
    train_rows=ROWS,
    inherits=Inheritance("mnist-conv", 2, encoder=(0, 2, 5), frozen=True),
    rival_seeds=(0, 1, 2, 3, 4),
)
RECIPE = replace(RECIPE, rivals={"from scratch": replace(RECIPE, inherits=None)})
