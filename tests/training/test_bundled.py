"""What the bundled packages promise, as far as it can be seen without the data they came from."""

import json
from pathlib import Path

import numpy as np
import pytest

from service.packaging import answers
from service.repository.golden import read_golden_rows
from service.repository.packages import read_package, scan
from service.scoring.calibration import read_calibration
from training.targets import TARGETS, missed

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def mnist_conv():
    (location,) = [found for found in scan(MODELS) if str(found) == "mnist-conv/1"]
    return read_package(location)


def test_the_digits_model_is_better_than_pca_and_than_its_promise(mnist_conv):
    quality = mnist_conv.manifest.quality

    assert quality.mse <= 0.0046 < quality.pca.mse
    assert quality.pca.components == mnist_conv.manifest.code.size == 32


def test_the_digits_model_raises_few_false_alarms_and_finds_photographs(mnist_conv):
    figures = mnist_conv.manifest.quality.figures

    assert figures["share_of_test_rows_above_threshold"] <= 0.015
    assert figures["grey_cut_outs_of_photographs"]["share_above"] >= 0.95


def test_the_digits_model_is_small(mnist_conv):
    assert sum(len(mnist_conv.files[name]) for name in mnist_conv.manifest.graphs.names) < 2_000_000


def test_the_stored_digits_come_back_with_the_error_that_the_card_promises(mnist_conv):
    rows = read_golden_rows(mnist_conv.files["golden.npz"]).rows

    given = answers(mnist_conv, rows)

    assert float(np.mean((given["reconstruction"] - rows) ** 2)) < 0.005
    np.testing.assert_allclose(
        given["score"], ((given["reconstruction"] - rows) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4
    )


CARDS = {
    str(location): json.loads((location.folder / "model.json").read_text(encoding="utf-8"))
    for location in scan(MODELS)
}
TRANSFERS = [name for name in CARDS if name.startswith("mnist-transfer/")]


@pytest.mark.parametrize("name", CARDS)
def test_every_bundled_model_has_a_target(name):
    assert TARGETS.get(CARDS[name]["name"])


@pytest.mark.parametrize("name", CARDS)
def test_a_model_reaches_its_target_or_its_card_says_that_it_does_not(name):
    quality = CARDS[name]["quality"]
    found = quality["figures"] | {"mse": quality["mse"]}

    # no more and no less: a card whose figures are good must not claim a miss either
    assert quality["figures"].get("target_missed", {}) == missed(CARDS[name]["name"], found)


DETECTORS = [name for name in CARDS if CARDS[name]["architecture"]["kind"] == "detecting"]
TWINS = [name for name in CARDS if "pca" in CARDS[name]["quality"] and name not in DETECTORS]


@pytest.mark.parametrize("name", TWINS)
def test_a_model_is_better_than_its_pca_twin(name):
    quality = CARDS[name]["quality"]

    assert quality["mse"] < quality["pca"]["mse"]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_scores_by_the_measure_that_its_card_names(name):
    file = MODELS / name / CARDS[name]["calibration"]["file"]

    default = read_calibration(file.read_bytes()).default_measure

    assert default == CARDS[name]["quality"]["figures"]["default_measure"]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_ranks_by_its_default_measure_better_than_principal_components(name):
    figures = CARDS[name]["quality"]["figures"]

    assert figures[f"auroc_{figures['default_measure']}"] > figures["auroc_of_pca"]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_that_chose_its_measure_took_the_best_on_validation_rows(name):
    figures = CARDS[name]["quality"]["figures"]
    start = "validation_auroc_"
    seen = {key.removeprefix(start): figures[key] for key in figures if key.startswith(start)}

    # a table's validation rows are all normal and can choose nothing
    best = max(seen, key=seen.__getitem__) if seen else "rapp"
    assert figures["default_measure"] == best


@pytest.mark.parametrize("name", CARDS)
def test_the_weights_of_a_model_are_small(name):
    files = CARDS[name]["files"]

    assert files["encoder.onnx"]["bytes"] + files["decoder.onnx"]["bytes"] < 2_000_000


@pytest.mark.parametrize("name", TRANSFERS)
def test_an_inherited_encoder_is_worth_more_than_a_fresh_one_with_each_seed(name):
    by_seed = CARDS[name]["quality"]["figures"]["test_mse_by_seed"]

    ours, theirs = by_seed["this recipe"], by_seed["from scratch"]
    assert len(ours) == len(theirs) == 5
    assert max(ours) < min(theirs)


@pytest.mark.parametrize("name", CARDS)
def test_pictures_for_people_lie_beside_the_files_and_are_small(name):
    pictures = {path.name: path.stat().st_size for path in (MODELS / name).glob("*.png")}

    assert "loss.png" in pictures
    assert ("reconstructions.png" in pictures) == ("image" in CARDS[name]["input"])
    assert ("scores.png" in pictures) == (name in DETECTORS)
    assert max(pictures.values()) < 60_000
