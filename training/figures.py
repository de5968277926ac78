"""The figures of a model card, from whoever answers; each with what it may be off by.

What a model is asked for beside the error of its reconstructions follows from its card: a kind
and its hyperparameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from service.repository.manifest import Architecture
from service.scoring.catalogue import MEASURES
from service.scoring.measures import MSE, Scores, mean_squared_error
from training import measures
from training.answers import Answers
from training.k_means import accuracy, k_means, mutual_information, nearest
from training.ranking import auroc, average_precision

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

DETECTING = "detecting"  # the kind of models that are there to find anomalies

NOISE_SEED = 0
K_MEANS_SEED = 0
K_MEANS_RESTARTS = 3  # on pixels one attempt ends much like another
K_MEANS_EVERY = 5  # so many rows give the same centres as all of them do
FILTERED_ROWS = 1000  # a window of 3x3 pixels around each pixel takes nine times the memory


@dataclass(frozen=True, slots=True)
class Examined:
    """A model and the rows that it is measured with.

    Attributes:
        architecture: Of its card.
        answers: Who answers for it.
        train: The rows that it was trained on; its PCA twin is fitted on them.
        test: Rows kept apart from everything.
        labels: Of the test rows; 1 for anomalies, where those are to be found.
        validation: Rows like the learned ones, that were not learned.
        others: Strange rows beside those, where a measure was chosen with both.
    """

    architecture: Architecture
    answers: Answers
    train: Rows
    test: Rows
    labels: Labels
    validation: Rows | None = None
    others: Rows | None = None

    @property
    def normal(self) -> "Examined":
        """The same with those test rows alone that are no anomalies."""
        chosen = self.labels == 0
        return replace(self, test=self.test[chosen], labels=self.labels[chosen])


# what the figures of a detector begin with; the name of a measure follows
AUROC, PRECISION, VALIDATION = "auroc_", "average_precision_", "validation_auroc_"
PCA = "of_pca"

# Roundings of another processor or another release move a score in its sixth digit and a count by
# single rows; k-means on other roundings may end elsewhere.
TOLERANCES: Mapping[str, float] = {
    "mse": 1e-6,
    "pca_mse": 1e-6,
    "threshold_at_false_positive_rate_0.01": 1e-6,
    "share_of_test_rows_above_threshold": 5e-4,
    "share_of_code_values_active": 1e-4,
    "active_code_values_a_row": 0.2,
    "psnr_db": 0.01,
    "psnr_db_of_the_mean_error": 0.01,
    "psnr_db_of_the_noisy_input": 0.01,
    "psnr_db_of_a_median_filter": 0.01,
    "share_of_noisy_test_rows_above_threshold": 5e-4,
    "clustering_accuracy": 5e-4,
    "clustering_nmi": 1e-3,
    "clustering_accuracy_of_k_means_on_pixels": 0.02,
    "clustering_nmi_of_k_means_on_pixels": 0.02,
    "share_of_anomalies_above_threshold": 5e-4,
    **{f"{AUROC}{name}": 5e-4 for name in [*MEASURES, PCA]},
    **{f"{PRECISION}{name}": 2e-3 for name in [*MEASURES, PCA]},
    **{f"{VALIDATION}{name}": 5e-4 for name in MEASURES},
}

# of figures that have no scale of their own, beside that; the deviations of ``rapp`` are small
# numbers that roundings are divided by
RELATIVE_TOLERANCES: Mapping[str, float] = {"threshold_at_false_positive_rate_0.01": 1e-4}


def figures(model: Examined) -> dict[str, float]:
    """Measure everything that the card of such a model holds."""
    kind = model.architecture.kind
    common = _common(model.normal if kind == DETECTING else model)
    return common | FURTHER.get(kind, _nothing)(model)


def _common(model: Examined) -> dict[str, float]:
    scores = model.answers.scores(model.test)
    threshold = model.answers.threshold
    components = model.answers.codes(model.test[:1])[0].size
    found = {
        "mse": measures.mean(model.answers.scores(model.test, MSE)),
        "threshold_at_false_positive_rate_0.01": threshold,
        "share_of_test_rows_above_threshold": measures.share_above(scores, threshold),
    }
    if components < min(model.train[0].size, len(model.train)):
        twin = measures.fit_pca(model.train, components=components)
        found["pca_mse"] = twin.mse(model.test)
    return found


def _nothing(_: Examined) -> dict[str, float]:
    return {}


def _sparse(model: Examined) -> dict[str, float]:
    codes = model.answers.codes(model.test)
    share = measures.share_active(codes)
    return {
        "share_of_code_values_active": share,
        "active_code_values_a_row": share * codes[0].size,
    }


def _denoising(model: Examined) -> dict[str, float]:
    deviation = model.architecture.hyperparameters["noise_standard_deviation"]
    noisy = measures.with_noise(model.test, float(str(deviation)), seed=NOISE_SEED)
    parts = np.array_split(noisy, -(-len(noisy) // FILTERED_ROWS))
    filtered = np.concatenate([measures.median_filtered(part) for part in parts])
    above = measures.share_above(model.answers.scores(noisy), model.answers.threshold)
    given = model.answers.reconstructions(noisy)
    return {
        "psnr_db": measures.psnr(model.test, given),
        "psnr_db_of_the_mean_error": measures.psnr_of_mean_error(model.test, given),
        "psnr_db_of_the_noisy_input": measures.psnr(model.test, noisy),
        "psnr_db_of_a_median_filter": measures.psnr(model.test, filtered),
        "share_of_noisy_test_rows_above_threshold": above,
    }


def _clustering(model: Examined) -> dict[str, float]:
    labels = model.labels.astype(np.int64)
    clusters = model.answers.clusters(model.test)
    pixels = model.train.reshape(len(model.train), -1)[::K_MEANS_EVERY]
    centres = k_means(pixels, 10, seed=K_MEANS_SEED, restarts=K_MEANS_RESTARTS)
    plain = nearest(model.test.reshape(len(model.test), -1), centres)
    return {
        "clustering_accuracy": accuracy(clusters, labels),
        "clustering_nmi": mutual_information(clusters, labels),
        "clustering_accuracy_of_k_means_on_pixels": accuracy(plain, labels),
        "clustering_nmi_of_k_means_on_pixels": mutual_information(plain, labels),
    }


def _detecting(model: Examined) -> dict[str, float]:
    """How well each measure puts anomalies above normal rows, beside principal components."""
    anomalies = model.labels.astype(bool)
    above = measures.share_above(
        model.answers.scores(model.test[anomalies]), model.answers.threshold
    )
    by_name = {name: model.answers.scores(model.test, name) for name in model.answers.measures}
    found = {"share_of_anomalies_above_threshold": above}
    for name, scores in (by_name | {PCA: _pca_scores(model)}).items():
        found[f"{AUROC}{name}"] = auroc(scores, anomalies)
        found[f"{PRECISION}{name}"] = average_precision(scores, anomalies)
    return found | _choosing(model)


def _pca_scores(model: Examined) -> Scores:
    """Score test rows by the model's PCA twin, or by all components if the code has as many.

    The error of the twin; or the squared distances along all components, each divided by the
    variance there (Shyu et al., "A Novel Anomaly Detection Scheme Based on Principal Component
    Classifier", 2003).
    """
    components = model.answers.codes(model.test[:1])[0].size
    if components >= model.train[0].size:
        return measures.distances_along_components(model.train, model.test)
    flat = model.test.reshape(len(model.test), -1)
    twin = measures.fit_pca(model.train, components=components).reconstruct(model.test)
    return mean_squared_error(flat, twin.astype(np.float32))


def _choosing(model: Examined) -> dict[str, float]:
    """Give what the default measure was chosen by, where strange rows were kept for that."""
    if model.validation is None or model.others is None:
        return {}
    rows = np.concatenate([model.validation, model.others])
    strange = np.arange(len(rows)) >= len(model.validation)
    return {
        f"{VALIDATION}{name}": auroc(model.answers.scores(rows, name), strange)
        for name in model.answers.measures
    }


FURTHER: Mapping[str, Callable[[Examined], dict[str, float]]] = {
    "sparse": _sparse,
    "denoising": _denoising,
    "clustering": _clustering,
    DETECTING: _detecting,
}
