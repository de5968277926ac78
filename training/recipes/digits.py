"""What the recipes of handwritten digits have in common."""

from service.specs import ImageSpec, TensorSpec
from training.recipe import HoldOut

SHAPE = (1, 28, 28)
INPUT = TensorSpec("float32", SHAPE, range=(0.0, 1.0), image=ImageSpec("L", "CHW"))
HOLD_OUT = HoldOut(validation=5000, calibration=5000, stretches=10)

INTENDED_USE = (
    "Examples, tests and benchmarks; compressing and comparing digits that were prepared the"
    " way MNIST's were: centred by mass in 28x28 pixels, light ink on a black ground."
)
NOT_FOR = (
    "Pictures of anything but single handwritten digits: the code knows only digits, and a"
    " reconstruction of something else is a digit-like smear.",
    "Dark ink on light paper, or digits that are not centred and scaled as in MNIST.",
    "Telling whether a picture is a digit at all: an almost black picture is reconstructed"
    " as black, so its error is small and it passes for normal.",
    "Reading digits: the model was given no labels and names none.",
    "Decisions about people, such as who wrote a digit or whether a signature is genuine.",
)
