"""``mnist-conv``: a convolutional autoencoder of handwritten digits with a code of 32 values.

Version 2 begins with the weights of version 1 and learns to pass over what is wrong in one place.
"""

from dataclasses import replace

from training.networks import Autoencoder, ConvolutionalSizes, convolutional
from training.recipe import Blots, Inheritance, Objective, Recipe, Schedule, Stage
from training.recipes.digits import HOLD_OUT, INPUT, INTENDED_USE, NOT_FOR

SIZES = ConvolutionalSizes(side=28, half_channels=16, quarter_channels=64, code=32)
# the modules of ``networks.convolutional`` that have weights
ENCODER, DECODER = (0, 2, 5), (0, 3, 6, 8)


def network() -> Autoencoder:
    return convolutional(SIZES)


FIRST = Recipe(
    name="mnist-conv",
    version=1,
    kind="convolutional",
    title="Handwritten digits, convolutional, code of 32 values",
    description=(
        "Encodes a grey picture of a handwritten digit (28x28, white on black) as 32 numbers and"
        " draws it again from them. Trained on MNIST without labels; the reconstruction error"
        " says how unlike the training digits a picture is."
    ),
    intended_use=INTENDED_USE,
    not_for=NOT_FOR,
    input=INPUT,
    code_values=SIZES.code,
    network=network,
    # small batches: in equal time on two cores, 32 rows a step reached a lower error than 64,
    # and 64 a lower one than 128
    stages=(Stage(Schedule(epochs=50, batch_rows=32, learning_rate=1.5e-3)),),
    hold_out=HOLD_OUT,
)

RECIPE = replace(
    FIRST,
    version=2,
    description=(
        f"{FIRST.description} Version 2 went on from version 1 with squares over half of the"
        " pictures, so that the error of a fault lies where the fault is, and gives its inner"
        " layers by name; codes of the two are not to be compared."
    ),
    # 32 rows a step have gone as far as they could; larger steps see less of the noise
    stages=(
        Stage(
            Schedule(epochs=16, batch_rows=128, learning_rate=1e-3),
            Objective(blots=Blots(largest=8, share=0.5)),
        ),
    ),
    inherits=Inheritance("mnist-conv", 1, encoder=ENCODER, decoder=DECODER),
)
