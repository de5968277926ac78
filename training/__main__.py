"""Train, export, calibrate and measure a bundled model.

    python -m training mnist-conv --data data/mnist

A run keeps its state after each epoch below ``runs/``, from which ``--resume`` goes on, and leaves
its checkpoint there; ``--from-checkpoint`` makes the package of it again without training. The
package goes to ``models/<name>/<version>/``.
"""

import argparse
from pathlib import Path

from training.checkpoint import Checkpoint, read_checkpoint
from training.pipeline import Conditions, make_package, train
from training.recipe import Recipe
from training.recipes import (
    mnist_anomaly,
    mnist_cluster,
    mnist_conv,
    mnist_denoise,
    mnist_dense,
    mnist_sparse,
    mnist_transfer,
    shuttle,
)
from training.rows import RowSets
from training.sources import source_of

RECIPES = {
    recipe.name: recipe
    for recipe in [
        *mnist_dense.RECIPES,
        mnist_conv.RECIPE,
        mnist_sparse.RECIPE,
        mnist_denoise.RECIPE,
        mnist_cluster.RECIPE,
        mnist_transfer.RECIPE,
        mnist_anomaly.RECIPE,
        shuttle.RECIPE,
    ]
}


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    recipe = RECIPES[options.model]
    source = source_of(recipe)
    rows = source.gather(
        recipe.hold_out,
        options.data or source.folder,
        train_rows=recipe.train_rows,
        address=options.source,
        photographs=options.photographs,
    )
    checkpoint = _checkpoint(recipe, rows, options)
    if options.out is not None:
        location = make_package(recipe, checkpoint, rows, options.out)
        print(f"{location.folder} is written")


def _checkpoint(recipe: Recipe, rows: RowSets, options: argparse.Namespace) -> Checkpoint:
    if options.from_checkpoint is not None:
        return read_checkpoint(options.from_checkpoint)
    folder = options.runs / recipe.name
    conditions = Conditions(
        seed=options.seed,
        threads=options.threads,
        machine=options.machine or f"{options.threads} CPU cores",
        models=options.models,
        epochs=options.epochs,
        store=folder / "state.pt",
        resume=options.resume,
    )
    checkpoint = train(recipe, rows, conditions)
    checkpoint.save(folder / "checkpoint.pt")
    print(f"trained in {checkpoint.history.seconds:.0f} s, kept in {folder}")
    return checkpoint


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("model", choices=sorted(RECIPES))
    add = parser.add_argument
    add("--data", type=Path, help="folder of the data set's files, instead of one below data/")
    add("--source", help="where missing files are downloaded from, instead of a public place")
    add("--photographs", type=Path, help="folder of photographs to measure detection with")
    add("--seed", type=int, default=0, help="of weights and of the order of the rows")
    add(
        "--epochs",
        type=int,
        help="instead of the recipe's number, to try things out; fifties"
        " of steps for recipes that count steps",
    )
    add("--threads", type=int, default=2, help="of torch; another number gives other roundings")
    add("--machine", help="what this runs on, in words for the card, beside the training time")
    add("--models", type=Path, default=Path("models"), help="where inherited layers come from")
    add("--out", type=Path, default=Path("models"), help="model repository to write to")
    add("--runs", type=Path, default=Path("runs"), help="where states and checkpoints are kept")
    add("--resume", action="store_true", help="go on with a run that was cut off")
    add("--no-package", dest="out", action="store_const", const=None, help="train and no more")
    add("--from-checkpoint", type=Path, help="make the package of this run, without training")
    return parser


if __name__ == "__main__":
    main()
