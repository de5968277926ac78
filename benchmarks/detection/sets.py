"""The rows: six tables of ADBench and MNIST, and which of them are learned, kept and judged.

ADBench: Han et al., NeurIPS 2022, after ODDS (Rayana 2016). The protocol is that of Livernoche et
al., ICLR 2024 ("semi-supervised"): a random half of the normal rows is learned, the other half and
all anomalies are judged. A fifth of the learned half is kept for calibration.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from training.data import mnist

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]
Digits = npt.NDArray[np.uint8]

TABLES: Final = {
    "shuttle": "32_shuttle.npz",
    "thyroid": "38_thyroid.npz",
    "cardio": "6_cardio.npz",
    "satimage-2": "31_satimage-2.npz",
    "pendigits": "28_pendigits.npz",
    "mammography": "23_mammography.npz",
}
MAX_LEARNED: Final = (
    10_000  # of the 22,793 of shuttle, for everybody: minutes and not rows are scarce
)
KEPT: Final = 5  # one row in five of a table is kept for calibration
KEPT_DIGITS: Final = 10  # one digit in ten is kept for validation
# of the normal ones among all 70,000 digits, where the setting is RaPP's; the others are judged
LEARNED_SHARE: Final = 0.7
KEPT_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Trial:
    """Rows of one experiment.

    Attributes:
        train: Normal rows to learn from.
        kept: Normal rows that are neither learned nor judged.
        test: Rows to judge.
        anomalies: Which of them are anomalies.
    """

    train: Rows
    kept: Rows
    test: Rows
    anomalies: Labels


def read_table(folder: Path, name: str) -> tuple[Rows, Labels]:
    """Read one table: its rows, and which of them are anomalies."""
    with np.load(folder / TABLES[name]) as archive:
        return archive["X"].astype(np.float32), archive["y"].astype(bool)


def split_table(rows: Rows, anomalies: Labels, *, seed: int) -> Trial:
    """Split a table as the protocol says."""
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~anomalies))
    learned, others = np.split(normal, [len(normal) // 2])
    judged = np.concatenate([others, np.flatnonzero(anomalies)])
    learned = learned[:MAX_LEARNED]
    kept = len(learned) // KEPT
    return Trial(rows[learned[kept:]], rows[learned[:kept]], rows[judged], anomalies[judged])


@dataclass(frozen=True, slots=True)
class Images:
    """MNIST as flat rows in [0, 1], with its labels."""

    train: Rows
    train_labels: Digits
    test: Rows
    test_labels: Digits


def read_digits(folder: Path) -> Images:
    """Read MNIST."""
    parts = mnist.load(folder)
    train, test = parts["train"], parts["test"]
    return Images(_flat(train.images), train.labels, _flat(test.images), test.labels)


def one_normal(images: Images, digit: int) -> Trial:
    """Learn one digit's training images; all test images are judged, other digits are anomalies."""
    return _digit_trial(images, images.train_labels == digit, images.test_labels != digit)


def one_anomalous(images: Images, digit: int) -> Trial:
    """Learn all digits but one; all test images are judged, that digit is the anomaly."""
    return _digit_trial(images, images.train_labels != digit, images.test_labels == digit)


def as_published(images: Images, digit: int) -> Trial:
    """Split training and test images together, as RaPP's experiments do.

    Every image of *digit* is judged, as an anomaly, and a tenth of the others at random.
    """
    rows = np.concatenate([images.train, images.test])
    labels = np.concatenate([images.train_labels, images.test_labels])
    normal = np.random.default_rng(digit).permutation(np.flatnonzero(labels != digit))
    ends = [int(share * len(normal)) for share in (LEARNED_SHARE, LEARNED_SHARE + KEPT_SHARE)]
    learned, kept, others = np.split(normal, ends)
    judged = np.concatenate([others, np.flatnonzero(labels == digit)])
    return Trial(rows[learned], rows[kept], rows[judged], labels[judged] == digit)


def validation_trial(images: Images, digit: int, *, rows: int = 2000) -> Trial:
    """Judge training images that were not learned: the kept ones of *digit* and *rows* others."""
    trial = one_normal(images, digit)
    others = np.flatnonzero(images.train_labels != digit)
    chosen = np.random.default_rng(digit).choice(others, rows, replace=False)
    judged = np.concatenate([trial.kept, images.train[chosen]])
    return Trial(trial.train, trial.kept, judged, np.arange(len(judged)) >= len(trial.kept))


def _digit_trial(images: Images, is_normal: Labels, anomalies: Labels) -> Trial:
    rows = images.train[is_normal]
    # the last ones: writers come in a row, and those of the kept images should be strangers
    kept = len(rows) // KEPT_DIGITS
    return Trial(rows[:-kept], rows[-kept:], images.test, anomalies)


def _flat(images: npt.NDArray[np.uint8]) -> Rows:
    return mnist.as_rows(images).reshape(len(images), -1)
