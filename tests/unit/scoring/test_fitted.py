"""What was learned, in a file and back; and files that lie about it."""

import io

import numpy as np
import pytest

from service.errors import PackageError
from service.scoring import catalogue
from service.scoring.calibration import Calibration, calibrate, read_calibration
from service.scoring.catalogue import Evidence, TopShare
from service.scoring.domain import DomainGuard
from service.specs import TensorSpec

SPEC = TensorSpec("float32", (3, 2))
LEARNERS = ["top_k", "rapp", "mahalanobis", "knn"]


def evidence(rows, seed=0):
    random = np.random.default_rng(seed)

    def made(*shape):
        return random.random((rows, *shape), np.float32)

    return Evidence(made(3, 2), made(3, 2), made(2), [made(4)], [made(4)])


def calibration(with_codes=True):
    seen = evidence(60)
    scores, fitted = catalogue.fit_and_score(["mse", *LEARNERS], seen, SPEC)
    codes = seen.codes if with_codes else None
    return calibrate(
        scores,
        default_measure="mse",
        errors=np.ones(3, np.float32),
        model_sha256="abc",
        data_sha256="def",
        fitted=fitted,
        domain=DomainGuard.fit(SPEC, seen.rows, scores["mse"], codes),
    )


CALIBRATION = calibration()


def arrays_of(made):
    with np.load(io.BytesIO(made.to_bytes())) as archive:
        return {name: archive[name] for name in archive.files}


def changed(**fields):
    """The file of *CALIBRATION* with other arrays, ``__`` for a dot; None leaves one out."""
    arrays = arrays_of(CALIBRATION) | {
        name.replace("__", "."): value for name, value in fields.items()
    }
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in arrays.items() if value is not None})
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["mse", *LEARNERS])
def test_a_measure_scores_the_same_after_its_file_was_read(name):
    read = read_calibration(CALIBRATION.to_bytes())
    others = evidence(5, seed=1)

    expected = catalogue.score(name, others, SPEC, CALIBRATION.fitted.get(name))
    found = catalogue.score(name, others, SPEC, read.fitted.get(name))

    assert found.tobytes() == expected.tobytes()
    assert read.scores[name].tobytes() == CALIBRATION.scores[name].tobytes()


@pytest.mark.parametrize("with_codes", [True, False])
def test_the_domain_guard_says_the_same_after_its_file_was_read(with_codes):
    made = calibration(with_codes)
    read = read_calibration(made.to_bytes())
    others = evidence(9, seed=1)
    codes = others.codes if with_codes else None

    assert made.domain is not None
    assert read.domain is not None
    assert (
        read.domain.p_values(others.rows, np.ones(9, np.float32), codes).tolist()
        == made.domain.p_values(others.rows, np.ones(9, np.float32), codes).tolist()
    )


def test_the_fingerprint_of_the_data_is_kept():
    assert read_calibration(CALIBRATION.to_bytes()).data_sha256 == "def"


def test_what_was_not_learned_is_not_written():
    plain = calibrate(
        {"mse": np.ones(2, "f4")},
        default_measure="mse",
        errors=np.ones(1, "f4"),
        model_sha256="abc",
    )

    assert sorted(arrays_of(plain)) == [
        "default_measure",
        "format",
        "heat_map_high",
        "model_sha256",
        "scores_mse",
    ]


def test_a_file_of_the_first_format_is_read():
    buffer = io.BytesIO()
    np.savez(
        buffer,
        scores_mse=np.array([1, 2], np.float32),
        default_measure=np.array("mse"),
        heat_map_high=np.array(0.5),
        model_sha256=np.array("abc"),
    )

    read = read_calibration(buffer.getvalue())

    assert read == Calibration(read.scores, "mse", 0.5, "abc")
    assert (read.data_sha256, read.fitted, read.domain) == (None, {}, None)


def test_a_file_of_a_later_format_is_refused():
    with pytest.raises(PackageError, match="written by a newer version"):
        read_calibration(changed(format=np.array(3)))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"fitted__top_k__share": np.array(0.0)}, id="share of nothing"),
        pytest.param({"fitted__top_k__share": np.array("all")}, id="share of text"),
        pytest.param({"fitted__top_k__share": np.array([0.1])}, id="several shares"),
        pytest.param({"fitted__knn__scale": None}, id="no scale"),
        pytest.param({"fitted__knn__scale": np.array([1, -1], "f4")}, id="negative scale"),
        pytest.param({"fitted__knn__scale": np.ones(3, "f4")}, id="scale of another length"),
        pytest.param({"fitted__knn__references": np.ones((9, 2))}, id="double precision"),
        pytest.param({"fitted__knn__references": np.full((9, 2), np.nan, "f4")}, id="NaN"),
        pytest.param({"fitted__knn__neighbours": np.array(99)}, id="too many neighbours"),
        pytest.param({"fitted__knn__neighbours": np.array(0)}, id="no neighbours"),
        pytest.param({"fitted__knn__neighbours": np.array(2.0)}, id="neighbours of a float"),
        pytest.param({"fitted__mahalanobis__middle": np.ones(3, "f4")}, id="another mean"),
        pytest.param({"fitted__rapp__middle": np.ones(3, "f4")}, id="another pathway"),
        pytest.param({"domain__reach": np.zeros(4, "f4")}, id="no reach"),
        pytest.param({"domain__reach": np.ones(2, "f4")}, id="too few sides"),
        pytest.param({"domain__worst_sides": np.array([2, 1], "f4")}, id="sides out of order"),
        pytest.param({"domain__worst_sides": None}, id="no sides"),
        pytest.param({"domain__sides__statistics__axes": np.ones(1)}, id="axes of floats"),
        pytest.param({"format": np.array("new")}, id="format of text"),
    ],
)
def test_a_file_of_other_fields_is_refused(fields):
    with pytest.raises(PackageError, match=r"calibration|share|code|domain|differences"):
        read_calibration(changed(**fields))


def test_the_share_of_top_k_is_fixed_by_the_calibration():
    seen = evidence(4)
    half = catalogue.score("top_k", seen, SPEC, TopShare(0.5))

    assert half.tolist() != catalogue.score("top_k", seen, SPEC).tolist()
