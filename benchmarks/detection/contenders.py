"""Detectors of others, with the options that they come with, on the same rows."""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.pca import PCA
from sklearn import decomposition

from benchmarks.detection.sets import Rows, Trial
from training.tables import column_scale

Values = npt.NDArray[np.float64]
COMPONENTS: Final = 30  # of digits, before neighbours are looked for


class Detector(Protocol):
    """What every detector of PyOD can do."""

    def fit(self, rows: Rows) -> object: ...

    def decision_function(self, rows: Rows) -> Values: ...


TABLE_CONTENDERS: Final[dict[str, Callable[[int], Detector]]] = {
    "PCA": lambda seed: PCA(random_state=seed),
    "kNN": lambda _: KNN(n_neighbors=5),
    "IsolationForest": lambda seed: IForest(random_state=seed),
    "PyOD AutoEncoder": lambda seed: AutoEncoder(random_state=seed, verbose=0, device="cpu"),
}


def score_table(name: str, trial: Trial, *, seed: int) -> Values:
    """Let a contender learn all normal rows, kept ones included, and score the test rows.

    Columns in which no normal row differs are left out: PyOD's PCA would divide by zero.
    """
    learned = np.concatenate([trial.train, trial.kept])
    moving = learned.std(axis=0) > 0
    learned, judged = learned[:, moving], trial.test[:, moving]
    middle, deviation = column_scale(learned)
    detector = TABLE_CONTENDERS[name](seed)
    detector.fit((learned - middle) / deviation)
    return detector.decision_function((judged - middle) / deviation)


def score_digits(trial: Trial, *, seed: int) -> Values:
    """Score pictures by their fifth neighbour among 30 principal components."""
    learned = np.concatenate([trial.train, trial.kept])
    components = decomposition.PCA(COMPONENTS, random_state=seed).fit(learned)
    detector = KNN(n_neighbors=5).fit(components.transform(learned))
    return detector.decision_function(components.transform(trial.test))
