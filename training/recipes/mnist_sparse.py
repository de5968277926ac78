"""``mnist-sparse``: more values in the code than a picture has pixels, nearly all of them zero.

A code that is long enough could copy the picture. What forbids it here is not the code's length
but a price on each value that is not zero (an L1 penalty), so a digit is written down as the few
strokes that it is made of. A second price keeps strokes from falling silent: with the first alone
one validation digit in a hundred or more used 8 of the 32 at the middle place of the code, with
both 22, and the error fell.
"""

from training.networks import Autoencoder, dictionary
from training.recipe import Objective, Recipe, Schedule, Stage
from training.recipes.digits import HOLD_OUT, INPUT, INTENDED_USE, NOT_FOR

SIDE, STROKES = 28, 32
CODE = STROKES * (SIDE // 4) ** 2


def network() -> Autoencoder:
    return dictionary(SIDE, hidden=(16, 64), strokes=STROKES)


RECIPE = Recipe(
    name="mnist-sparse",
    version=1,
    kind="sparse",
    title=f"Handwritten digits as a few of {CODE} strokes",
    description=(
        f"Encodes a grey picture of a handwritten digit (28x28, white on black) as {CODE} numbers"
        f" that are nearly all zero: how much there is of each of {STROKES} strokes at each of"
        " 7x7 places. Values of the code can be read, which those of a short code cannot."
    ),
    intended_use=(
        f"{INTENDED_USE} Looking at what a code is made of: decode a code in which one value is"
        " not zero, and see its stroke."
    ),
    not_for=(
        "Finding pictures that are no digits: strokes make up much that is no digit, so the"
        " error of a stranger is lower than with a short code.",
        "Saving space: a dense code of 32 values is smaller than the values here that are not"
        " zero and their places.",
        *NOT_FOR,
    ),
    input=INPUT,
    code_values=CODE,
    network=network,
    stages=(
        Stage(
            Schedule(epochs=4, batch_rows=64, learning_rate=1e-3),
            Objective(sparsity=0.05, channels=STROKES, evenness=0.3, activity=0.02),
        ),
    ),
    hold_out=HOLD_OUT,
)
