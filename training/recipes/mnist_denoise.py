"""``mnist-denoise``: takes noisy digits and gives clean ones.

Each picture gets fresh noise each time it is trained on, and what the network has to draw is the
picture without it. Where the noise is, the code never learns; where the strokes go on, it does.
"""

from training.networks import Autoencoder, grid
from training.recipe import Inheritance, Objective, Recipe, Schedule, Stage
from training.recipes.digits import HOLD_OUT, INPUT, NOT_FOR

NOISE = 0.5
SIDE, CHANNELS = 28, 16


def network() -> Autoencoder:
    return grid(SIDE, hidden=(16, 64), channels=CHANNELS)


RECIPE = Recipe(
    name="mnist-denoise",
    version=1,
    kind="denoising",
    title="Handwritten digits, freed of noise",
    description=(
        "Draws the clean digit of a grey picture (28x28, white on black) to which Gaussian noise"
        f" with a standard deviation of {NOISE} was added, clipped to the range of pixels."
        " Its figures hold two peak signal-to-noise ratios: 'psnr_db', by which the model and what"
        " it is compared with are ranked, is the mean of each digit's own, and"
        " 'psnr_db_of_the_mean_error' that of the squared error averaged over all digits, which"
        " is lower because bad reconstructions weigh more in it."
    ),
    intended_use=(
        "Examples, tests and benchmarks; cleaning pictures of single digits that were prepared the"
        " way MNIST's were and have noise of about this strength in every pixel."
    ),
    not_for=(
        "Anomaly scores of noisy pictures: the score is the difference between input and output,"
        " which for a noisy picture is the noise. Its threshold was calibrated on clean digits,"
        " so it says how unlike a clean digit the input is, and noise alone exceeds it.",
        "Other noise: stripes, blots, missing parts or noise far stronger or weaker than it was"
        " trained with.",
        "Evidence: what a stroke was under the noise is guessed from how digits mostly look.",
        *NOT_FOR,
    ),
    input=INPUT,
    code_values=CHANNELS * (SIDE // 4) ** 2,
    network=network,
    stages=(
        Stage(Schedule(epochs=4, batch_rows=64, learning_rate=2e-3), Objective(noise=NOISE)),
        # the learning rate falls twice more from as high, for it had not come to an end
        Stage(Schedule(epochs=8, batch_rows=64, learning_rate=2e-3), Objective(noise=NOISE)),
        Stage(Schedule(epochs=6, batch_rows=64, learning_rate=2e-3), Objective(noise=NOISE)),
    ),
    hold_out=HOLD_OUT,
    # edges and strokes need not be learned again; what lies between them is new
    inherits=Inheritance("mnist-conv", 2, encoder=(0, 2), decoder=(3, 6, 8)),
    tried=(
        "a single fall of the learning rate over 4 epochs (validation MSE 0.0106) and a second one"
        " over 8 (0.0099)",
    ),
)
