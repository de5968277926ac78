"""Cards are measured again through a service that is running, and a wrong one is noticed."""

import numpy as np
import pytest

from service.calibrating import EVERY_MEASURE
from service.repository.manifest import Architecture, PcaTwin, Quality
from service.repository.packages import read_package
from tests import tiny
from training.answers import Packed
from training.evaluate import Comparison, compare, examined
from training.figures import AUROC, TOLERANCES, VALIDATION, figures
from training.rows import RowSets
from training.served import Served, described, service

SHAPE = (1, 4, 5)


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(3)
    sizes = {"train": 40, "validation": 5, "calibration": 150, "test": 700}
    made = {name: random.random((size, *SHAPE), np.float32) for name, size in sizes.items()}
    return RowSets(**made, labels=np.zeros(700, dtype=np.uint8))


@pytest.fixture(scope="module")
def location(tmp_path_factory, rows):
    """A model that halves its input; denoising, because that has the most figures."""
    return tiny.write(
        tmp_path_factory.mktemp("models"),
        tiny.halving([*SHAPE]),
        rows.test[:4],
        calibration=rows.calibration,
        value_range=(0, 1),
        code_shape=SHAPE,
        architecture=Architecture(
            kind="denoising", hyperparameters={"noise_standard_deviation": 0.25}
        ),
    )


@pytest.fixture(scope="module")
def card(location, rows):
    """The card with the figures that the package itself gives."""
    plain = described(location.folder)
    found = figures(examined(plain, Packed(read_package(location), rows.calibration), rows))
    further = {name: value for name, value in found.items() if name != "mse"}
    quality = Quality(data="test", rows=700, mse=found["mse"], figures=further)
    return plain.model_copy(update={"quality": quality})


@pytest.fixture(scope="module")
def served(location):
    with service(location.folder.parents[1]) as address:
        yield Served(address, location.name, location.version)


def test_a_service_gives_the_figures_that_the_package_gave(card, served, rows):
    comparisons = compare(card, served, rows)

    assert {comparison.figure for comparison in comparisons} >= {"mse", "psnr_db"}
    assert all(comparison.holds for comparison in comparisons)


def test_answers_over_http_are_those_of_the_graphs(served, rows):
    np.testing.assert_array_equal(served.codes(rows.test), rows.test / 2)
    np.testing.assert_array_equal(served.decoded(rows.test), rows.test)
    np.testing.assert_array_equal(served.reconstructions(rows.test), rows.test / 2)
    np.testing.assert_allclose(
        served.scores(rows.test), (rows.test**2 / 4).mean(axis=(1, 2, 3)), rtol=1e-5
    )


def test_a_figure_that_is_off_is_noticed(card, served, rows):
    quality = card.quality.model_copy(update={"mse": card.quality.mse * 1.001})

    comparisons = compare(card.model_copy(update={"quality": quality}), served, rows)

    assert [found.figure for found in comparisons if not found.holds] == ["mse"]


def test_a_claim_that_nobody_measures_is_off(card, served, rows):
    quality = card.quality.model_copy(update={"pca": PcaTwin(components=20, mse=0.0)})

    comparisons = compare(card.model_copy(update={"quality": quality}), served, rows)

    assert [found.figure for found in comparisons if not found.holds] == ["pca_mse"]


def test_a_figure_that_the_card_lacks_is_off():
    assert not Comparison("tiny/1", "mse", None, 0.1).holds
    assert "not on it" in str(Comparison("tiny/1", "mse", None, 0.1))


def test_a_figure_may_be_off_by_its_tolerance_and_no_more():
    within = TOLERANCES["psnr_db"]

    assert Comparison("tiny/1", "psnr_db", 20.0, 20.0 + 0.9 * within).holds
    assert not Comparison("tiny/1", "psnr_db", 20.0, 20.0 + 1.1 * within).holds


@pytest.fixture(scope="module")
def judged():
    """Normal rows keep what the model keeps; anomalies have what it drops."""
    random = np.random.default_rng(5)

    def normal(count):
        return (random.normal(size=(count, 6)) * [1, 1, 0.1, 0.1, 0.1, 0.1]).astype(np.float32)

    strange = normal(60) + np.array([0, 0, 0.4, 0, 0, 0], np.float32)
    return RowSets(
        train=normal(80),
        validation=normal(40),
        calibration=normal(200),
        test=np.concatenate([normal(60), strange]),
        labels=np.repeat(np.array([0, 1], np.uint8), 60),
        others=normal(40) + np.array([0, 0, 0, 0.5, 0, 0], np.float32),
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory, judged):
    return tiny.write(
        tmp_path_factory.mktemp("detectors"),
        tiny.keeping(6, 2),
        judged.test[:4],
        calibration=judged.calibration,
        architecture=Architecture(kind="detecting"),
    )


def test_a_service_gives_the_ranking_of_every_measure_that_the_package_gave(detector, judged):
    card = described(detector.folder)
    packed = Packed(read_package(detector), judged.calibration, EVERY_MEASURE)
    found = figures(examined(card, packed, judged))
    with service(detector.folder.parents[1]) as address:
        over_http = figures(examined(card, Served(address, "tiny", 1), judged))

    assert {"auroc_mse", "auroc_max", "auroc_knn", "auroc_of_pca"} <= found.keys()
    assert {f"{VALIDATION}mse", "share_of_anomalies_above_threshold"} <= found.keys()
    assert over_http == pytest.approx(found, abs=1e-5)
    # what is strange lies in what the code drops
    assert found[f"{AUROC}mse"] > 0.75 > found[f"{AUROC}knn"]


def test_the_error_on_the_card_of_a_detector_is_that_of_normal_rows(detector, judged):
    packed = Packed(read_package(detector), judged.calibration)

    found = figures(examined(described(detector.folder), packed, judged))

    expected = np.square(judged.test[:60, 2:]).sum(axis=1).mean() / 6
    assert found["mse"] == pytest.approx(float(expected), rel=1e-5)


def test_a_threshold_may_be_off_by_a_share_of_itself():
    name = "threshold_at_false_positive_rate_0.01"

    assert Comparison("tiny/1", name, 10.0, 10.0005).holds
    assert not Comparison("tiny/1", name, 10.0, 10.005).holds
    assert not Comparison("tiny/1", name, 0.01, 0.01 + 3e-6).holds
