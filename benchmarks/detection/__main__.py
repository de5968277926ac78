"""Measure how well anomalies are found, and write the report.

python -m benchmarks.detection --tables data/adbench --digits data/mnist

Figures are kept in .cache/detection.json after each experiment; a run that was cut off goes on
from there, unless --anew is given.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from benchmarks.detection.report import write_report
from benchmarks.detection.results import AS_PUBLISHED, ONE_ANOMALOUS, ONE_NORMAL, Results
from benchmarks.detection.trials import Trials, digit_trials, table_trials

RESULTS: Final = Path("benchmarks/results")
KEPT: Final = Path(".cache/detection.json")
SEEDS: Final = 5


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.anew:
        options.kept.unlink(missing_ok=True)
    results = Results.at(options.kept)
    if options.tables:
        _run(table_trials(options.tables, results, range(options.seeds)), results)
    if options.digits:
        others = () if options.one_normal_only else (ONE_ANOMALOUS, AS_PUBLISHED)
        _run(digit_trials(options.digits, results, (ONE_NORMAL, *others)), results)
    print(write_report(results, options.out))


def _run(trials: Trials, results: Results) -> None:
    for key, make in trials:
        started = time.perf_counter()
        figures = make()
        results.keep(key, figures)
        best = ", ".join(f"{name} {area:.3f}" for name, (area, _) in figures.items())
        print(f"{key} ({time.perf_counter() - started:.0f} s): {best}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How well anomalies are found.")
    parser.add_argument("--tables", type=Path, help="folder with the six tables of ADBench (npz)")
    parser.add_argument("--digits", type=Path, help="folder with MNIST; missing files are fetched")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="splits of each table")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--one-normal-only", action="store_true", help="leave RaPP's setting out")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where figures are kept")
    parser.add_argument("--anew", action="store_true", help="forget what was kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    return parser


if __name__ == "__main__":
    main()
