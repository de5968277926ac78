"""What the bundled packages promise, as far as it can be seen without the data they came from."""

from pathlib import Path

import numpy as np
import pytest

from service.packaging import answers
from service.repository.golden import read_golden_rows
from service.repository.packages import read_package, scan

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


def test_pictures_for_people_lie_beside_the_files():
    assert {path.name for path in (MODELS / "mnist-conv" / "1").glob("*.png")} == {
        "loss.png",
        "reconstructions.png",
    }
