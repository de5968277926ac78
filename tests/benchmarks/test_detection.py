"""Ranking figures by hand and against scikit-learn, splits without overlap, and the report."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from benchmarks.detection.report import chosen_measure, ranked, render, targets
from benchmarks.detection.results import (
    DIGITS,
    ONE_NORMAL,
    TABLE,
    VALIDATION,
    Key,
    Results,
)
from benchmarks.detection.sets import (
    TABLES,
    Images,
    as_published,
    one_anomalous,
    one_normal,
    read_table,
    split_table,
    validation_trial,
)
from training.ranking import auroc, average_precision

LABELLED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: {kind for _, kind in rows} == {True, False}
)


def pairwise(scores, anomalies):
    """The share of pairs of an anomaly and a normal row that are in the right order."""
    above = [
        (high > low) + (high == low) / 2 for high in scores[anomalies] for low in scores[~anomalies]
    ]
    return np.mean(above)


@settings(max_examples=150, deadline=None)
@given(rows=LABELLED)
def test_the_area_is_the_share_of_pairs_in_the_right_order(rows):
    scores, anomalies = np.array([s for s, _ in rows], "f4"), np.array([a for _, a in rows])

    assert auroc(scores, anomalies) == pytest.approx(pairwise(scores, anomalies))


def test_average_precision_by_hand():
    scores = np.array([9, 8, 7, 7, 1], np.float32)
    anomalies = np.array([True, False, True, False, True])

    # 1/3 at precision 1, 1/3 at 2/4 with the tie taken whole, 1/3 at 3/5
    assert average_precision(scores, anomalies) == pytest.approx((1 + 0.5 + 0.6) / 3)


@settings(max_examples=100, deadline=None)
@given(rows=LABELLED)
def test_both_figures_are_those_of_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, anomalies = np.array([s for s, _ in rows], "f4"), np.array([a for _, a in rows])

    assert auroc(scores, anomalies) == pytest.approx(metrics.roc_auc_score(anomalies, scores))
    assert average_precision(scores, anomalies) == pytest.approx(
        metrics.average_precision_score(anomalies, scores)
    )


def test_a_table_is_split_without_overlap_and_anomalies_are_only_judged(tmp_path):
    rows = np.arange(101, dtype=np.float64)[:, None]
    np.savez(tmp_path / TABLES["cardio"], X=rows, y=(np.arange(101) >= 81).astype(int))

    trial = split_table(*read_table(tmp_path, "cardio"), seed=3)

    assert [len(part) for part in (trial.train, trial.kept, trial.test)] == [32, 8, 61]
    together = np.concatenate([trial.train, trial.kept, trial.test])[:, 0]
    assert sorted(together.tolist()) == list(range(101))
    assert (trial.test[:, 0] >= 81).tolist() == trial.anomalies.tolist()
    other = split_table(*read_table(tmp_path, "cardio"), seed=4)
    assert trial.train.tolist() != other.train.tolist()


def images():
    labels = (np.arange(400) % 10).astype(np.uint8)
    rows = np.arange(400, dtype=np.float32)[:, None]
    return Images(rows, labels, rows[:50] + 1000, labels[:50])


def test_with_one_digit_normal_only_its_images_are_learned():
    trial = one_normal(images(), 3)

    assert set((trial.train[:, 0] % 10).tolist()) == {3.0}
    assert len(trial.train) == 36
    assert len(trial.kept) == 4
    assert trial.anomalies.sum() == 45


def test_with_one_digit_anomalous_it_is_not_learned():
    trial = one_anomalous(images(), 3)

    assert 3.0 not in set((np.concatenate([trial.train, trial.kept])[:, 0] % 10).tolist())
    assert trial.anomalies.sum() == 5


def test_as_published_all_images_are_split_and_every_one_of_the_digit_is_judged():
    trial = as_published(images(), 3)

    assert [len(part) for part in (trial.train, trial.kept)] == [283, 81]
    assert trial.anomalies.sum() == 45
    together = np.concatenate([trial.train, trial.kept, trial.test])[:, 0]
    assert sorted(together.tolist()) == [*range(400), *range(1000, 1050)]
    assert set((trial.test[trial.anomalies, 0] % 10).tolist()) == {3.0}


def test_validation_rows_are_neither_learned_nor_test_rows():
    validation, trial = validation_trial(images(), 3, rows=20), one_normal(images(), 3)

    judged = set(validation.test[:, 0].tolist())
    assert not judged & set(trial.train[:, 0].tolist())
    assert not judged & set(trial.test[:, 0].tolist())
    assert validation.anomalies.tolist() == [False] * 4 + [True] * 20


def test_results_are_kept_and_found_again(tmp_path):
    path = tmp_path / "new" / "results.json"
    Results.at(path).keep(Key(TABLE, "cardio", 0), {"rapp": (0.9, 0.5)})

    again = Results.at(path)

    assert again.has(Key(TABLE, "cardio", 0))
    assert not again.has(Key(TABLE, "cardio", 1))
    assert [list(figures["rapp"]) for figures in again.of(TABLE, "cardio")] == [[0.9, 0.5]]


def test_the_measure_is_chosen_on_validation_rows_alone():
    digits = {
        "mse": {"0": 0.99},
        "rapp": {"0": 0.5},
        f"{VALIDATION} mse": {"0": 0.6},
        f"{VALIDATION} rapp": {"0": 0.7},
    }

    assert chosen_measure(digits) == "rapp"


def test_targets_are_met_or_missed_by_what_was_measured():
    ours = dict.fromkeys(TABLES, 0.97)
    theirs = dict.fromkeys(TABLES, 0.94) | {"cardio": 0.985}

    lines = targets({"rapp": ours, "PyOD AutoEncoder": theirs}, {}, {}, {}, "mse").splitlines()[2:]

    assert [line.split("|")[3].strip() for line in lines] == ["0.9700", "0.0225", "-0.0150"]
    assert [line.split("|")[4].strip() for line in lines] == ["met", "met", "missed"]


def test_rapp_is_measured_by_its_level_and_by_its_gain_in_both_settings():
    def rows(error, rapp):
        areas = {"mse": error, "rapp": rapp, "sap": 0.99}
        return {name: {str(digit): area for digit in DIGITS} for name, area in areas.items()}

    lines = targets({}, {}, rows(0.8, 0.87), rows(0.86, 0.9), "mse").splitlines()[2:]

    assert [line.split("|")[2:5] for line in lines] == [
        [" 0.859 ", " 0.8600 ", " met "],
        [" 0.916 ", " 0.9000 ", " missed "],
        [" 0.057 ", " 0.0400 ", " missed "],
        [" 0.859 ", " 0.8000 ", " missed "],
        [" 0.916 ", " 0.8700 ", " missed "],
        [" 0.057 ", " 0.0700 ", " met "],
    ]
    half = {name: {"0": 0.9} for name in ("mse", "rapp")}
    assert len(targets({}, {}, half, {}, "mse").splitlines()) == 2


def test_detectors_are_ranked_by_their_mean_and_those_with_gaps_come_last():
    rows = {"a": {"x": 0.5, "y": 0.7}, "b": {"x": 0.9}, "c": {"x": 0.8, "y": 0.9}}

    lines = ranked(rows, ["x", "y"]).splitlines()[2:]

    assert lines == [
        "| c | 0.800 | 0.900 | 0.8500 |",
        "| a | 0.500 | 0.700 | 0.6000 |",
        "| b | 0.900 | - | - |",
    ]


def test_a_report_of_everything_holds_every_section(tmp_path):
    results = Results(tmp_path / "results.json")
    for name in TABLES:
        for seed, area in [(0, 0.9), (1, 1.0)]:
            figures = {"rapp": (area, 0.5), "PyOD AutoEncoder": (0.9, 0.4)}
            results.figures[str(Key(TABLE, name, seed))] = figures
    for digit in DIGITS:
        figures = {"rapp": (0.98, 0.9), f"{VALIDATION} rapp": (0.97, 0.9)}
        results.figures[str(Key(ONE_NORMAL, str(digit), 0))] = figures
    results.path.write_text(json.dumps(results.figures))

    report = render(Results.at(results.path))

    assert "mean of 2 seeds" in report
    assert "| six tables, `rapp`, mean AUROC | 0.965 | 0.9500 | missed |" in report
    assert "| MNIST, one digit normal, `rapp`, mean AUROC | 0.965 | 0.9800 | met |" in report
    assert "| kNN, published | 0.999 |" in report
    assert "one digit anomalous" not in report
