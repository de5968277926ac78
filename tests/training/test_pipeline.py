import json
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
from training import measures
from training.checkpoint import read_checkpoint
from training.figures import NOISE_SEED
from training.inheritance import inherit
from training.networks import ConvolutionalSizes, convolutional, dictionary
from training.normal_rows import Shuttle
from training.pipeline import Conditions, make_package, train
from training.recipe import Inheritance, Objective, Schedule, Stage, TableRecipe
from training.recipes import mnist_conv
from training.rows import RowSets
from training.tables import TableNetwork

SIZES = ConvolutionalSizes(side=8, half_channels=2, quarter_channels=3, code=3)
SCHEDULE = Schedule(epochs=2, batch_rows=16, learning_rate=1e-2)
RECIPE = replace(
    mnist_conv.FIRST,
    name="tiny",
    input=TensorSpec("float32", (1, 8, 8), range=(0.0, 1.0), image=ImageSpec()),
    code_values=SIZES.code,
    network=lambda: convolutional(SIZES),
    stages=(Stage(SCHEDULE),),
)
ALONE = Conditions(seed=4, threads=1, machine="a test")


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(8)
    sizes = {"train": 48, "validation": 16, "calibration": 199, "test": 70, "photographs": 20}
    made = {
        name: random.random((size, 1, 8, 8), dtype=np.float32) ** 3 for name, size in sizes.items()
    }
    return RowSets(**made, labels=random.integers(10, size=70, dtype=np.uint8))


@pytest.fixture(scope="module")
def checkpoint(rows):
    return train(RECIPE, rows, ALONE)


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
    assert quality.pca.components == 3


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
    assert (code.name, code.kind, code.nodes) == ("encoder.dense1", "dense", 3)
    assert (last.kind, last.activation, last.output_shape) == (
        "pixel shuffle",
        "sigmoid",
        [1, 8, 8],
    )
    assert architecture.layers[0].kernel == [5, 5]
    assert architecture.parameters == sum(w.numel() for w in checkpoint.weights.values())


def test_inner_layers_are_named_and_the_code_and_the_output_are_not_among_them(location):
    manifest = read_package(location).manifest

    assert list(manifest.layers) == [
        "encoder.conv1",
        "encoder.conv2",
        "decoder.dense1",
        "decoder.conv1",
        "decoder.conv2",
        "decoder.conv3",
    ]
    assert manifest.layers["encoder.conv2"].shape == (3, 2, 2)


def test_a_kept_checkpoint_gives_the_same_package_without_training(
    location, checkpoint, rows, tmp_path
):
    checkpoint.save(tmp_path / "runs" / "checkpoint.pt")

    again = make_package(
        RECIPE, read_checkpoint(tmp_path / "runs" / "checkpoint.pt"), rows, tmp_path
    )

    assert read_package(again).manifest == read_package(location).manifest


def test_a_rival_is_compared_for_each_seed_and_the_recipe_itself_is_trained_once(rows):
    recipe = replace(
        RECIPE,
        rivals={"squared error": replace(RECIPE, stages=(Stage(SCHEDULE, Objective("mse")),))},
        rival_seeds=(4, 5),
    )

    found = train(recipe, rows, ALONE).comparison

    assert list(found) == ["this recipe", "squared error"]
    assert len({*found["this recipe"], *found["squared error"]}) == 4


def test_inherited_layers_have_the_weights_of_the_bundled_model(location, checkpoint):
    network = convolutional(SIZES)
    inheritance = Inheritance("tiny", 1, encoder=(0, 5), decoder=(3,), frozen=True)

    inherit(network, inheritance, location.folder.parents[1])

    given = network.state_dict()
    for name, weights in checkpoint.weights.items():
        inherited = name.startswith(("encoder.0.", "encoder.5.", "decoder.3."))
        assert bool((given[name] == weights).all()) == inherited
    assert not network.encoder[0].weight.requires_grad
    assert network.encoder[2].weight.requires_grad


def test_a_sparse_model_has_its_sparsity_on_the_card_and_its_units_in_a_picture(rows, tmp_path):
    recipe = replace(
        RECIPE,
        kind="sparse",
        code_values=64,
        # the sheet of units takes sixteen in a line
        network=lambda: dictionary(8, hidden=(2, 3), strokes=16),
        stages=(Stage(SCHEDULE, Objective(sparsity=0.1)),),
    )

    location = make_package(recipe, train(recipe, rows, ALONE), rows, tmp_path)

    card = json.loads((location.folder / "model.json").read_text(encoding="utf-8"))
    assert 0 <= card["quality"]["figures"]["share_of_code_values_active"] <= 1
    assert card["architecture"]["hyperparameters"]["sparsity_penalty"] == 0.1
    assert (location.folder / "units.png").exists()


def test_a_denoising_model_is_measured_against_clean_rows_beside_a_median_filter(rows, tmp_path):
    # two epochs from fresh weights leave it worse than the noise; twenty are a second
    long = replace(SCHEDULE, epochs=20)
    recipe = replace(RECIPE, kind="denoising", stages=(Stage(long, Objective(noise=0.5)),))

    location = make_package(recipe, train(recipe, rows, ALONE), rows, tmp_path)

    card = json.loads((location.folder / "model.json").read_text(encoding="utf-8"))
    figures = card["quality"]["figures"]
    assert figures["psnr_db_of_the_noisy_input"] < figures["psnr_db"]
    noisy = measures.with_noise(rows.test, 0.5, seed=NOISE_SEED)
    given = answers(read_package(location), noisy)["reconstruction"]
    assert figures["psnr_db"] == pytest.approx(measures.psnr(rows.test, given), abs=1e-4)
    # the logarithm of a mean error: never above the mean of logarithms, which it stands beside
    pooled = -10 * np.log10(np.mean((rows.test - given) ** 2))
    assert figures["psnr_db_of_the_mean_error"] == pytest.approx(pooled, abs=1e-4)
    assert figures["psnr_db_of_the_mean_error"] < figures["psnr_db"]
    assert "psnr_db_of_a_median_filter" in figures
    assert (location.folder / "denoised.png").exists()


COLUMNS = ("speed", "heat", "load")
TABLE = TableRecipe(widths=(8,), code=4, noise=0.5, steps=200, batch_rows=32, learning_rate=1e-2)
DETECTOR = replace(
    RECIPE,
    name="machine",
    kind="detecting",
    input=TensorSpec("float32", (3,), features=COLUMNS),
    code_values=4,
    network=lambda: TableNetwork((3,), TABLE),
    stages=(),
    source=Shuttle(),
    table=TABLE,
    default_measure="rapp",
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """The package of a table whose columns hang together, and its rows."""
    random = np.random.default_rng(9)

    def normal(count):
        hidden = random.normal(size=(count, 1)) * [300, 2, -40] + [1000, 0, 7]
        return (hidden + random.normal(size=(count, 3)) * [30, 0.2, 4]).astype(np.float32)

    sizes = {"train": 400, "validation": 50, "calibration": 400}
    made = {name: normal(size) for name, size in sizes.items()}
    strange = normal(50)
    strange[:, 1] = -strange[:, 1]
    labels = np.repeat(np.array([0, 1], np.uint8), [100, 50])
    rows = RowSets(**made, test=np.concatenate([normal(100), strange]), labels=labels)
    folder = tmp_path_factory.mktemp("machines")
    return make_package(DETECTOR, train(DETECTOR, rows, ALONE), rows, folder), rows


def test_a_table_is_packed_with_its_columns_its_scale_and_its_default_measure(machine):
    location, rows = machine

    card = json.loads((location.folder / "model.json").read_text(encoding="utf-8"))
    assert tuple(card["input"]["features"]) == COLUMNS
    assert card["input"]["scale"] == pytest.approx(rows.train.std(axis=0), rel=1e-5)
    calibration = read_calibration((location.folder / "calibration.npz").read_bytes())
    assert calibration.default_measure == "rapp"
    assert {"mse", "rapp", "knn"} <= set(calibration.measures)
    assert card["architecture"]["hyperparameters"]["steps"] == 200
    # what is learned, and not the means and deviations that lie beside it
    assert card["architecture"]["parameters"] == 2 * (3 * 8 + 8 * 4) + 8 + 4 + 8 + 3


def test_the_card_of_a_detector_ranks_its_measures_beside_principal_components(machine):
    location, _ = machine

    card = json.loads((location.folder / "model.json").read_text(encoding="utf-8"))
    figures = card["quality"]["figures"]
    # a turned column is far from the line that normal rows lie along
    assert figures["auroc_rapp"] > 0.8
    assert {"average_precision_rapp", "auroc_of_pca", "average_precision_of_pca"} <= figures.keys()
    assert card["training"]["data"][0]["split"]["anomalies_in_test"] == 50
    assert card["quality"]["parity_max_difference"] < 1e-5


def test_a_detector_of_tables_has_pictures_of_scores_and_columns_and_no_contact_sheet(machine):
    location, _ = machine

    found = {path.name for path in location.folder.glob("*.png")}
    assert found == {"loss.png", "scores.png", "errors.png"}


def test_a_kept_table_checkpoint_gives_the_same_graphs(machine, tmp_path):
    location, rows = machine
    checkpoint = train(DETECTOR, rows, ALONE)
    checkpoint.save(tmp_path / "checkpoint.pt")

    again = make_package(DETECTOR, read_checkpoint(tmp_path / "checkpoint.pt"), rows, tmp_path)

    assert read_package(again).model_sha256 == read_package(location).model_sha256


def test_a_short_training_of_a_table_has_so_many_points(machine):
    _, rows = machine

    history = train(DETECTOR, rows, replace(ALONE, epochs=2)).history

    assert len(history.train_loss) == 2
