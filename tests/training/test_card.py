import pytest

pytest.importorskip("torch")
pytest.importorskip("tqdm")

from training.__main__ import RECIPES, main
from training.card import command
from training.checkpoint import Checkpoint
from training.loop import History
from training.recipes.mnist_conv import RECIPE


def checkpoint(*, epochs=None):
    return Checkpoint(
        weights={},
        history=History(stages=[3]),
        seed=7,
        epochs=epochs,
        threads=2,
        machine="",
        software={},
    )


def test_the_command_repeats_seed_and_threads():
    given = command(RECIPE, checkpoint())

    assert given == "make train MODEL=mnist-conv ARGS='--seed 7 --threads 2'"


def test_a_shortened_training_shows_in_the_command():
    assert "--epochs 1'" in command(RECIPE, checkpoint(epochs=1))


def test_every_recipe_can_be_asked_for_by_its_name(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])

    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)
