"""``shuttle``: finds strange rows in a table of nine numbers from a space shuttle.

A denoising autoencoder whose code is longer than its rows: noise keeps it from copying, and the
measure ``rapp`` reads from all of its layers how far a row is off. Sizes, steps and measure are
those that the detection benchmark has for all of its six tables. But for one: values further than
three deviations from the mean reach the layers as if they were at three. Some columns have a few
values at a hundred deviations, and a network that has seen those copies whatever is put in there.
"""

from typing import TYPE_CHECKING

from service.specs import TensorSpec
from training.data.shuttle import FEATURES
from training.normal_rows import Shuttle
from training.recipe import HoldOut, Recipe, TableRecipe

if TYPE_CHECKING:
    from training.networks import Autoencoder

TABLE = TableRecipe(
    widths=(128, 64), code=32, noise=1.0, steps=2000, batch_rows=256, learning_rate=2e-3, reach=3.0
)


def network() -> "Autoencoder":
    from training.tables import TableNetwork  # noqa: PLC0415 - recipes are read without torch too

    return TableNetwork((len(FEATURES),), TABLE)


RECIPE = Recipe(
    name="shuttle",
    version=1,
    kind="detecting",
    title="Strange rows in a table of nine columns from a space shuttle",
    description=(
        "Scores rows of nine numbers from a space shuttle (Statlog) by how unlike the normal ones"
        " they are. UCI documents that the first column is time and nothing about the others, so"
        " they are called a2 to a9 here. Its default measure is 'rapp'; errors are in units of"
        " each column's deviation. The measure and the sizes were found for six tables together,"
        " of which this is one: while they were developed, figures of other random halves of it"
        " were looked at, labels included, and its anomalies are the same in each."
    ),
    intended_use=(
        "Examples, tests and benchmarks: a tabular model whose columns have names and units of"
        " their own."
    ),
    not_for=(
        "A shuttle, or any other machine: the rows are decades old, come in no order, and"
        " what their columns measure is not documented.",
        "Rows in another order of columns or in other units: nothing in the numbers would show it.",
        "Following a drift over time: rows are judged one by one.",
        "Saying what is wrong: a score says how strange a row is. A single column that is far off"
        " is named first by an explanation; of several at once some may not be.",
    ),
    input=TensorSpec("float32", (len(FEATURES),), features=FEATURES),
    code_values=TABLE.code,
    network=network,
    stages=(),
    # the order of the rows is random already, so that one stretch is as good as many
    hold_out=HoldOut(validation=2000, calibration=6000, stretches=1),
    source=Shuttle(seed=0),
    table=TABLE,
    default_measure="rapp",
)
