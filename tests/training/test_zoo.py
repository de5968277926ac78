import json
import re

import pytest
from PIL import Image

from training import zoo
from training.figures import AUROC, TOLERANCES, VALIDATION
from training.zoo import PAGE, ROOT, page, read_models

MODELS = read_models(ROOT / "models")
PICTURES = sorted((ROOT / "models").glob("*/*/*.png"))


def test_the_page_is_the_one_that_the_cards_give():
    """After a change of a card, ``make zoo`` writes the page anew."""
    assert PAGE.read_text(encoding="utf-8") == page(MODELS)


def test_every_version_has_a_row_and_a_section():
    text = page(MODELS)

    for model in MODELS:
        assert f"| [{model.location}](" in text
        assert f"\n## {model.location}\n" in text


def test_every_picture_that_the_page_shows_is_there_and_small():
    shown = re.findall(r"!\[.*?\]\(\.\./(.*?)\)", page(MODELS))

    assert len(shown) >= 2 * len(MODELS)
    for path in shown:
        assert (ROOT / path).stat().st_size < 60_000
        with Image.open(ROOT / path) as picture:
            picture.verify()


def test_every_picture_beside_a_model_is_on_the_page():
    beside = {f"models/{path.relative_to(ROOT / 'models')}" for path in PICTURES}

    assert all(f"(../{path})" in page(MODELS) for path in beside)


@pytest.mark.parametrize("name", sorted(zoo.FIGURES))
def test_a_figure_of_the_page_is_one_that_is_measured(name):
    assert name in TOLERANCES


def test_a_card_that_changes_changes_the_page(tmp_path):
    model = MODELS[0]
    card = json.loads(json.dumps(model.card))
    card["quality"]["mse"] = 0.123

    changed = page([zoo.Model(model.location, card)])

    assert "| 0.1230 |" in changed


def test_a_target_that_was_missed_is_on_the_page():
    model = MODELS[0]
    card = json.loads(json.dumps(model.card))
    card["quality"]["figures"]["target_missed"] = {"mse": "was to be at most 0.1 and is 0.2"}

    changed = page([zoo.Model(model.location, card)])

    assert "* Target missed, mse: was to be at most 0.1 and is 0.2\n" in changed


def test_what_was_tried_in_vain_is_on_the_page():
    card = json.loads(json.dumps(MODELS[0].card))
    card["quality"]["figures"]["tried"] = ["more epochs", "fewer rows a step"]

    assert "* Tried in vain: more epochs; fewer rows a step\n" in page(
        [zoo.Model(MODELS[0].location, card)]
    )


def test_measures_of_a_detector_stand_in_a_table_the_best_first():
    card = json.loads(json.dumps(MODELS[0].card))
    card["quality"]["figures"] = {
        "default_measure": "mse",
        f"{AUROC}mse": 0.9,
        "average_precision_mse": 0.5,
        f"{VALIDATION}mse": 0.8,
        f"{AUROC}rapp": 0.95,
        "average_precision_rapp": 0.6,
        f"{AUROC}of_pca": 0.7,
        "average_precision_of_pca": 0.3,
    }

    text = page([zoo.Model(MODELS[0].location, card)])

    lines = [
        "| measure | AUROC | average precision | AUROC on validation rows |",
        "|---|---|---|---|",
        "| `rapp` | 0.9500 | 0.6000 | - |",
        "| `mse`, the default | 0.9000 | 0.5000 | 0.8000 |",
        "| PCA | 0.7000 | 0.3000 | - |",
    ]
    assert "\n".join(["", *lines, ""]) in text


def test_every_data_set_is_named_once_with_its_licence():
    text = page(MODELS)

    for model in MODELS:
        for data in model.card["training"]["data"]:
            assert text.count(f"* {data['name']}, {data['licence']}\n") == 1
