"""All experiments by name."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from benchmarks.detection import contenders, ours
from benchmarks.detection.results import (
    AS_PUBLISHED,
    DIGITS,
    ONE_ANOMALOUS,
    ONE_NORMAL,
    TABLE,
    VALIDATION,
    Figures,
    Key,
    Results,
)
from benchmarks.detection.sets import (
    TABLES,
    Images,
    Trial,
    as_published,
    one_anomalous,
    one_normal,
    read_digits,
    read_table,
    split_table,
    validation_trial,
)
from training.ranking import Labels, Values, auroc, average_precision

Trials: TypeAlias = Iterator[tuple[Key, Callable[[], Figures]]]
"""Experiments, and what makes each of them."""


def table_trials(folder: Path, results: Results, seeds: range) -> Trials:
    """List the experiments on tables that are still to be made."""
    for name in TABLES:
        rows, anomalies = read_table(folder, name)
        for seed in seeds:
            key = Key(TABLE, name, seed)
            if not results.has(key):
                trial = split_table(rows, anomalies, seed=seed)
                yield key, lambda trial=trial, seed=seed: _on_table(trial, seed)


def digit_trials(folder: Path, results: Results, kinds: tuple[str, ...]) -> Trials:
    """List the experiments on digits that are still to be made; they have one seed."""
    images = read_digits(folder)
    make: dict[str, Callable[[Images, int], Figures]] = {
        ONE_NORMAL: _one_normal,
        ONE_ANOMALOUS: _one_anomalous,
        AS_PUBLISHED: _as_published,
    }
    for kind in kinds:
        for digit in DIGITS:
            key = Key(kind, str(digit), 0)
            if not results.has(key):
                yield key, lambda kind=kind, digit=digit: make[kind](images, digit)


def _on_table(trial: Trial, seed: int) -> Figures:
    scores: dict[str, Values] = dict(ours.train_on_table(trial, seed=seed).scores(trial.test))
    for name in contenders.TABLE_CONTENDERS:
        scores[name] = contenders.score_table(name, trial, seed=seed)
    return _figures(scores, trial.anomalies)


def _one_normal(images: Images, digit: int) -> Figures:
    trial, validation = one_normal(images, digit), validation_trial(images, digit)
    detector = ours.train_on_digits(trial, seed=digit)
    scores: dict[str, Values] = dict(detector.scores(trial.test))
    scores["kNN on PCA-30"] = contenders.score_digits(trial, seed=digit)
    on_validation = _figures(detector.scores(validation.test), validation.anomalies)
    return _figures(scores, trial.anomalies) | {
        f"{VALIDATION} {name}": found for name, found in on_validation.items()
    }


def _one_anomalous(images: Images, digit: int) -> Figures:
    trial = one_anomalous(images, digit)
    return _figures(ours.train_on_digits(trial, seed=digit).scores(trial.test), trial.anomalies)


def _as_published(images: Images, digit: int) -> Figures:
    trial = as_published(images, digit)
    return _figures(ours.train_as_published(trial, seed=digit).scores(trial.test), trial.anomalies)


def _figures(scores: Mapping[str, Values], anomalies: Labels) -> Figures:
    return {
        name: (auroc(values, anomalies), average_precision(values, anomalies))
        for name, values in scores.items()
    }
