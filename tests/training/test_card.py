from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("tqdm")

from training import targets
from training.__main__ import RECIPES, main
from training.card import command, quality
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


def measured(mse, monkeypatch):
    """What a card says of a model with this error, which was to have at most 0.1."""
    monkeypatch.setitem(targets.TARGETS, RECIPE.name, (targets.Target("mse", 0.1),))
    recipe = replace(RECIPE, tried=("more epochs", "fewer rows a step"))
    found = quality(recipe, {"mse": mse}, rows=7, parity=0.0, photographs=None, comparison={})
    return found.figures


def test_what_was_tried_is_on_the_card_of_a_model_that_misses_its_target(monkeypatch):
    figures = measured(0.2, monkeypatch)

    assert figures["target_missed"] == {"mse": "was to be at most 0.1 and is 0.2"}
    assert figures["tried"] == ["more epochs", "fewer rows a step"]


def test_what_was_tried_is_nobodys_business_once_the_target_is_met(monkeypatch):
    assert measured(0.1, monkeypatch) == {}
