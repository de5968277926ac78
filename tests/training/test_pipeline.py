from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from service.packaging import answers
from service.repository.packages import read_package
from service.scoring.calibration import read_calibration
from service.scoring.measures import mean_squared_error
from service.specs import ImageSpec, TensorSpec
from training.checkpoint import read_checkpoint
from training.networks import ConvolutionalSizes, convolutional
from training.pipeline import make_package, train
from training.recipe import Schedule
from training.recipes import mnist_conv
from training.rows import RowSets

SIZES = ConvolutionalSizes(side=8, half_channels=2, quarter_channels=3, code=2)
RECIPE = replace(
    mnist_conv.RECIPE,
    name="tiny",
    input=TensorSpec("float32", (1, 8, 8), range=(0.0, 1.0), image=ImageSpec()),
    code_values=SIZES.code,
    network=lambda: convolutional(SIZES),
    schedule=Schedule(epochs=2, batch_rows=16, learning_rate=1e-2),
)


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(8)
    sizes = {"train": 48, "validation": 16, "calibration": 199, "test": 70, "photographs": 20}
    made = {
        name: random.random((size, 1, 8, 8), dtype=np.float32) ** 3 for name, size in sizes.items()
    }
    return RowSets(**made)


@pytest.fixture(scope="module")
def checkpoint(rows):
    return train(RECIPE, rows, RECIPE.schedule, seed=4, threads=1, machine="a test")


@pytest.fixture(scope="module")
def location(checkpoint, rows, tmp_path_factory):
    return make_package(RECIPE, checkpoint, rows, tmp_path_factory.mktemp("models"))


def test_the_folder_holds_the_package_and_two_pictures(location):
    assert {path.name for path in location.folder.iterdir()} == {
        "model.json",
        "encoder.onnx",
        "decoder.onnx",
        "calibration.npz",
        "golden.npz",
        "loss.png",
        "reconstructions.png",
    }


def test_the_card_holds_what_can_be_measured_again(location, rows):
    package = read_package(location)
    given = answers(package, rows.test)
    quality = package.manifest.quality

    scores = mean_squared_error(rows.test, given["reconstruction"])
    assert quality is not None
    assert quality.mse == pytest.approx(float(scores.mean()), rel=1e-5)
    assert quality.pca is not None
    assert quality.pca.components == 2


def test_the_threshold_comes_from_the_calibration_rows_alone(location, rows):
    package = read_package(location)
    calibration = read_calibration(package.files["calibration.npz"])
    scores = np.sort(answers(package, rows.calibration)["score"])

    np.testing.assert_array_equal(calibration.scores["mse"], scores)
    assert package.manifest.quality is not None
    # ceil(0.99 * 200) = 198
    assert package.manifest.quality.figures["threshold_at_false_positive_rate_0.01"] == scores[197]


def test_the_card_describes_every_layer(location, checkpoint):
    architecture = read_package(location).manifest.architecture

    assert architecture is not None
    code, last = architecture.layers[3], architecture.layers[-1]
    assert (code.kind, code.nodes, code.output_shape) == ("dense", 2, [2])
    assert (last.kind, last.activation, last.output_shape) == (
        "pixel shuffle",
        "sigmoid",
        [1, 8, 8],
    )
    assert architecture.layers[0].kernel == [5, 5]
    assert architecture.parameters == sum(w.numel() for w in checkpoint.weights.values())


def test_a_kept_checkpoint_gives_the_same_package_without_training(
    location, checkpoint, rows, tmp_path
):
    checkpoint.save(tmp_path / "runs" / "checkpoint.pt")

    again = make_package(
        RECIPE, read_checkpoint(tmp_path / "runs" / "checkpoint.pt"), rows, tmp_path
    )

    assert read_package(again).manifest == read_package(location).manifest
