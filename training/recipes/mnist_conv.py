"""``mnist-conv``: a convolutional autoencoder of handwritten digits with a code of 32 values."""

from service.specs import ImageSpec, TensorSpec
from training.networks import Autoencoder, ConvolutionalSizes, convolutional
from training.recipe import HoldOut, Recipe, Schedule

SIZES = ConvolutionalSizes(side=28, half_channels=16, quarter_channels=64, code=32)


def network() -> Autoencoder:
    return convolutional(SIZES)


RECIPE = Recipe(
    name="mnist-conv",
    version=1,
    kind="convolutional",
    title="Handwritten digits, convolutional, code of 32 values",
    description=(
        "Encodes a grey picture of a handwritten digit (28x28, white on black) as 32 numbers and"
        " draws it again from them. Trained on MNIST without labels; the reconstruction error"
        " says how unlike the training digits a picture is."
    ),
    intended_use=(
        "Examples, tests and benchmarks; compressing and comparing digits that were prepared the"
        " way MNIST's were: centred by mass in 28x28 pixels, light ink on a black ground."
    ),
    not_for=(
        "Pictures of anything but single handwritten digits: the code knows only digits, and a"
        " reconstruction of something else is a digit-like smear.",
        "Dark ink on light paper, or digits that are not centred and scaled as in MNIST.",
        "Telling whether a picture is a digit at all: an almost black picture is reconstructed"
        " as black, so its error is small and it passes for normal.",
        "Reading digits: the model was given no labels and names none.",
        "Decisions about people, such as who wrote a digit or whether a signature is genuine.",
    ),
    input=TensorSpec("float32", (1, 28, 28), range=(0.0, 1.0), image=ImageSpec("L", "CHW")),
    code_values=SIZES.code,
    network=network,
    # small batches: in equal time on two cores, 32 rows a step reached a lower error than 64,
    # and 64 a lower one than 128
    schedule=Schedule(epochs=50, batch_rows=32, learning_rate=1.5e-3),
    hold_out=HoldOut(validation=5000, calibration=5000, stretches=10),
)
