"""The report: targets beside figures, then every table."""

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean
from typing import Final

from benchmarks import machine
from benchmarks.detection.results import (
    AS_PUBLISHED,
    DIGITS,
    ONE_ANOMALOUS,
    ONE_NORMAL,
    TABLE,
    VALIDATION,
    Figures,
    Results,
)
from benchmarks.detection.sets import TABLES
from benchmarks.markdown import NOTHING, table
from service.scoring.measures import MSE
from service.scoring.rapp import NAP

PACKAGES: Final = ("numpy", "torch", "scikit-learn", "pyod")
PYOD: Final = "PyOD AutoEncoder"

# Livernoche et al., "On Diffusion Modeling for Anomaly Detection", ICLR 2024
PUBLISHED: Final = {
    "PCA, published": {
        "shuttle": 0.994, "thyroid": 0.985, "cardio": 0.965,
        "satimage-2": 0.982, "pendigits": 0.944, "mammography": 0.899,
    },
    "kNN, published": {
        "shuttle": 0.999, "thyroid": 0.987, "cardio": 0.920,
        "satimage-2": 0.997, "pendigits": 0.999, "mammography": 0.876,
    },
}  # fmt: skip
# Kim et al., ICLR 2020, and what github.com/Aiden-Jeon/RaPP keeps of its runs (assets/runs.csv, the
# mean of two), whose own means round to those of the paper
RAPP_SOURCE: Final = (
    "Published: .859 for the reconstruction error, .916 for NAP (Kim et al., ICLR 2020); digit by"
    " digit from the runs kept at github.com/Aiden-Jeon/RaPP, with 200 epochs"
)
RAPP_AREAS: Final = {MSE: 0.859, NAP: 0.916}
RAPP_PUBLISHED: Final = {
    "error, published": (0.957, 0.381, 0.981, 0.971, 0.934, 0.974, 0.923, 0.795, 0.964, 0.704),
    "SAP, published": (0.951, 0.657, 0.986, 0.982, 0.972, 0.988, 0.939, 0.890, 0.962, 0.755),
    "NAP, published": (0.952, 0.697, 0.989, 0.982, 0.971, 0.989, 0.956, 0.903, 0.964, 0.761),
}

# of all tables: no validation row of theirs is an anomaly, so none of them can choose
TABLE_MEASURE: Final = NAP

AUROC, PRECISION = 0, 1

Row = dict[str, float]
"""Figures by subject."""


def write_report(results: Results, folder: Path) -> Path:
    """Write ``<date>-detection.md`` and give its path."""
    path = folder / f"{datetime.now(UTC):%Y-%m-%d}-detection.md"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(render(results), encoding="utf-8")
    return path


def render(results: Results) -> str:
    """Write the Markdown of all that was measured."""
    tables = by_detector(results, TABLE, list(TABLES))
    digits = by_detector(results, ONE_NORMAL, [str(digit) for digit in DIGITS])
    others = by_detector(results, ONE_ANOMALOUS, [str(digit) for digit in DIGITS])
    published = by_detector(results, AS_PUBLISHED, [str(digit) for digit in DIGITS])
    chosen = chosen_measure(digits)
    found = targets(tables, digits, others, published, chosen)
    parts = ["# Detection", _facts(results), "## Targets", found]
    if tables:
        parts += ["## Six tables: AUROC", ranked(tables | _published(), list(TABLES))]
        precision = by_detector(results, TABLE, list(TABLES), PRECISION)
        parts += ["## Six tables: average precision", ranked(precision, list(TABLES))]
    names = [str(digit) for digit in DIGITS]
    if digits:
        judged = {name: row for name, row in digits.items() if not name.startswith(VALIDATION)}
        parts += ["## MNIST, one digit normal: AUROC", ranked(judged, names)]
        seen = {name: row for name, row in digits.items() if name.startswith(VALIDATION)}
        parts += [
            f"On validation rows, which choose the measure (`{chosen}`):",
            ranked(seen, names),
        ]
    if others:
        parts += ["## MNIST, one digit anomalous: AUROC", ranked(others, names)]
    if published:
        rows = published | {
            name: dict(zip(names, row, strict=True)) for name, row in RAPP_PUBLISHED.items()
        }
        head = "## MNIST, one digit anomalous, network and split as published: AUROC"
        parts += [head, RAPP_SOURCE, ranked(rows, names)]
    return "\n\n".join(parts) + "\n"


def by_detector(
    results: Results, kind: str, subjects: Sequence[str], figure: int = AUROC
) -> dict[str, Row]:
    """Give the mean over all seeds, by detector and subject; subjects not measured are left out."""
    found: dict[str, Row] = {}
    for subject in subjects:
        trials = results.of(kind, subject)
        for name in _names(trials):
            values = [trial[name][figure] for trial in trials if name in trial]
            found.setdefault(name, {})[subject] = mean(values)
    return found


def chosen_measure(digits: Mapping[str, Row]) -> str:
    """Give the measure with the best mean over all digits on validation rows."""
    seen = {
        name.removeprefix(f"{VALIDATION} "): mean(row.values())
        for name, row in digits.items()
        if name.startswith(VALIDATION)
    }
    return max(seen, key=lambda name: seen[name]) if seen else NAP


def targets(
    tables: Mapping[str, Row],
    digits: Mapping[str, Row],
    others: Mapping[str, Row],
    published: Mapping[str, Row],
    chosen: str,
) -> str:
    """Put what was to be reached beside what was."""
    lines = []
    if len(tables.get(TABLE_MEASURE, {})) == len(TABLES):
        ours, theirs = tables[TABLE_MEASURE], tables[PYOD]
        average = mean(ours.values())
        lead = average - mean(theirs.values())
        worst = min(ours[name] - theirs[name] for name in TABLES)
        lines += [
            _target(f"six tables, `{TABLE_MEASURE}`, mean AUROC", 0.965, average),
            _target(f"six tables, `{TABLE_MEASURE}` above {PYOD}, mean AUROC", 0.02, lead),
            _target(f"six tables, `{TABLE_MEASURE}` above {PYOD}, worst table", -0.01, worst),
        ]
    if len(digits.get(chosen, {})) == len(DIGITS):
        average = mean(digits[chosen].values())
        lines.append(_target(f"MNIST, one digit normal, `{chosen}`, mean AUROC", 0.965, average))
    for where, rows in (("as published", published), ("our network", others)):
        if all(len(rows.get(name, {})) == len(DIGITS) for name in RAPP_AREAS):
            lines += _of_rapp(f"MNIST, one digit anomalous, {where}", rows)
    return table(["target", "at least", "measured", ""], lines)


def _of_rapp(what: str, rows: Mapping[str, Row]) -> list[list[str]]:
    areas = {name: mean(rows[name].values()) for name in RAPP_AREAS}
    gain = RAPP_AREAS[NAP] - RAPP_AREAS[MSE]
    return [
        *(_target(f"{what}, `{name}`", wanted, areas[name]) for name, wanted in RAPP_AREAS.items()),
        _target(f"{what}, gain of `{NAP}` over `{MSE}`", gain, areas[NAP] - areas[MSE]),
    ]


def _target(what: str, wanted: float, measured: float) -> list[str]:
    return [what, f"{wanted:.3f}", f"{measured:.4f}", "met" if measured >= wanted else "missed"]


def ranked(rows: Mapping[str, Row], subjects: Sequence[str]) -> str:
    """Write a table, the best mean first; a row with gaps has no mean and comes last."""

    def average(name: str) -> float | None:
        row = rows[name]
        return mean(row.values()) if len(row) == len(subjects) else None

    order = sorted(rows, key=lambda name: -(average(name) or 0.0))
    return table(
        ["", *subjects, "mean"],
        (
            [
                name,
                *(_figure(rows[name].get(subject)) for subject in subjects),
                _figure(average(name), 4),
            ]
            for name in order
        ),
    )


def _figure(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def _names(trials: Sequence[Figures]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial))


def _published() -> dict[str, Row]:
    return {name: dict(row) for name, row in PUBLISHED.items()}


def _facts(results: Results) -> str:
    trials = [len(results.of(TABLE, name)) for name in TABLES]
    seeds = f"{min(trials)}" if min(trials) == max(trials) else f"{min(trials)} to {max(trials)}"
    return "\n".join(
        [
            f"* Machine: {machine.describe()}; one thread",
            f"* Python {platform.python_version()}, {_versions()}",
            "* Command: `make detection`; how it is measured: [README](../README.md#detection)",
            f"* Tables: mean of {seeds} seeds. MNIST: one seed a digit",
        ]
    )


def _versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # a report can be written again where nothing is trained
            continue
    return ", ".join(found)
