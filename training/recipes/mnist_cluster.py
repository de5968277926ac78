"""``mnist-cluster``: a code that falls into ten clusters, which turn out to be the digits.

Which training digits belong together comes from a net of neighbours (``training.clusters``); the
network learns to draw digits from its code and, at the same time, to put the code near the centre
of its cluster. No label goes into a training; labels of training digits were looked at while the
recipe was developed, which the card says.
"""

from training.networks import Autoencoder, dense, with_centres
from training.recipe import Distortion, Objective, Recipe, Schedule, Stage
from training.recipes.digits import HOLD_OUT, INPUT, INTENDED_USE, NOT_FOR, SHAPE

CODE = CLUSTERS = 10


def network() -> Autoencoder:
    return with_centres(dense(SHAPE, (256, 128), CODE), CLUSTERS, CODE)


RECIPE = Recipe(
    name="mnist-cluster",
    version=1,
    kind="clustering",
    title="Handwritten digits, sorted into ten clusters",
    description=(
        f"Encodes a grey picture of a handwritten digit (28x28, white on black) as {CODE} numbers"
        f" that fall into {CLUSTERS} clusters, and says which of them it is in. The clusters were"
        " found without labels; their numbers mean nothing. The way to find them was not: while"
        " this recipe was developed, ways and settings were compared by how well the clusters of"
        " the training digits agree with those digits' labels. The labels of the test digits chose"
        " nothing; they were read only at the end, to measure the finished weights for this card."
    ),
    intended_use=INTENDED_USE,
    not_for=(
        "Close reconstructions: the code is short, and bent towards its clusters.",
        *NOT_FOR,
    ),
    input=INPUT,
    code_values=CODE,
    network=network,
    stages=(
        Stage(
            Schedule(epochs=12, batch_rows=128, learning_rate=2e-3, keep="last"),
            Objective(
                # a little, so that a digit at the edge of its cluster has company there
                distortion=Distortion(degrees=8, pixels=1, zoom=0.1),
                clusters=CLUSTERS,
                clustering=0.05,
            ),
        ),
    ),
    hold_out=HOLD_OUT,
)
