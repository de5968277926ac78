"""Calibrations: thresholds and p-values by hand and against exact arithmetic; files that lie."""

import io
import struct
import zipfile
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from service.errors import InvalidRowsError, PackageError, UnsupportedOperationError
from service.scoring.calibration import Calibration, calibrate, read_calibration

RATES = st.floats(0, 1, exclude_min=True, exclude_max=True)


def calibration_of(*scores, **others):
    return calibrate(
        {"mse": np.array(scores, np.float32), **others},
        default_measure="mse",
        errors=np.array([[0.25, 0.5]], np.float32),
        model_sha256="abc",
    )


def one_to(n):
    """A calibration whose k-th smallest score is k."""
    return calibration_of(*range(1, n + 1))


def test_scores_are_kept_in_ascending_order():
    calibration = calibration_of(3, 1, 2, 1)

    assert calibration.scores["mse"].dtype == np.float32
    assert calibration.scores["mse"].tolist() == [1.0, 1.0, 2.0, 3.0]


def test_the_scores_given_are_not_changed():
    given_scores = np.array([3, 1, 2], np.float32)

    calibrate(
        {"mse": given_scores}, default_measure="mse", errors=np.ones(1, "f4"), model_sha256=""
    )

    assert given_scores.tolist() == [3.0, 1.0, 2.0]


def test_measures_are_named_in_order():
    calibration = calibration_of(1, rapp=np.ones(2), latent=np.ones(2))

    assert calibration.measures == ["latent", "mse", "rapp"]


def test_the_size_is_that_of_the_default_measure():
    assert calibration_of(1, 2, 3, rapp=np.ones(2)).rows == 3


def test_white_in_a_heat_map_is_what_one_error_in_a_thousand_reaches():
    errors = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)

    calibration = calibrate(
        {"mse": np.ones(3, "f4")}, default_measure="mse", errors=errors, model_sha256=""
    )

    assert calibration.heat_map_high == pytest.approx(999.0)


@pytest.mark.parametrize(
    ("n", "rate", "k"),
    [
        pytest.param(999, 0.01, 990, id="990 = 0.99 * 1000"),
        pytest.param(999, 0.001, 999, id="the smallest rate of 999 rows"),
        pytest.param(999, 0.0015, 999, id="998.5 is rounded up"),
        pytest.param(999, 0.5, 500, id="half"),
        pytest.param(999, 0.999, 1, id="nearly all"),
        pytest.param(999, 0.9999, 1, id="0.1 is rounded up"),
        pytest.param(9, 0.1, 9, id="(1 - 0.1) * 10 is 9, not a little more"),
        pytest.param(9, 0.7, 3, id="(1 - 0.7) * 10 is 3, not a little more"),
        pytest.param(9, 0.3, 7, id="7"),
        pytest.param(99, 0.05, 95, id="95"),
        pytest.param(4, 0.25, 4, id="3.75 is rounded up"),
        pytest.param(1, 0.5, 1, id="one row"),
        pytest.param(100, 0.01, 100, id="99.99 is rounded up"),
    ],
)
def test_the_threshold_is_the_kth_smallest_score(n, rate, k):
    assert one_to(n).threshold("mse", rate) == k


@settings(max_examples=100)
@given(n=st.integers(1, 2000), rate=RATES)
def test_the_threshold_agrees_with_exact_arithmetic(n, rate):
    k = ceil((1 - Fraction(str(rate))) * (n + 1))

    if k > n:
        with pytest.raises(InvalidRowsError, match="rarer"):
            one_to(n).threshold("mse", rate)
    else:
        assert one_to(n).threshold("mse", rate) == k


@given(hundredths=st.integers(1, 99), n=st.integers(100, 300))
def test_rates_that_people_write_agree_with_exact_arithmetic(hundredths, n):
    k = ceil((1 - Fraction(hundredths, 100)) * (n + 1))

    assert one_to(n).threshold("mse", hundredths / 100) == k


@pytest.mark.parametrize(
    ("n", "rate", "smallest"),
    [
        (999, 0.0009, "0.001"),
        (99, 0.0099, "0.01"),
        (2, 0.333, "0.334"),
        (6, 0.1, "0.143"),
        (8, 0.1, "0.112"),
        (1, 0.4, "0.5"),
        (1999, 1e-9, "0.0005"),
    ],
)
def test_a_rate_rarer_than_the_sample_shows_is_told_the_smallest(n, rate, smallest):
    with pytest.raises(InvalidRowsError, match=f"the smallest is {smallest}$") as caught:
        one_to(n).threshold("mse", rate)

    assert caught.value.expected == f"false_positive_rate >= {smallest}"
    assert caught.value.received == "a smaller one"


@given(n=st.integers(1, 3000))
def test_the_smallest_rate_that_is_named_can_be_had(n):
    calibration = one_to(n)
    with pytest.raises(InvalidRowsError) as caught:
        calibration.threshold("mse", 1e-9)

    smallest = float(str(caught.value.expected).rpartition(" ")[2])

    assert calibration.threshold("mse", smallest) <= n


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.1, float("nan"), float("inf")])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(InvalidRowsError, match="between 0 and 1") as caught:
        one_to(99).threshold("mse", rate)

    assert caught.value.expected == "0 < false_positive_rate < 1"


@pytest.mark.parametrize(("n", "rate"), [(99, 0.01), (999, 0.01), (10_000, 0.01)])
def test_the_default_rate_is_one_percent(n, rate):
    assert one_to(n).default_false_positive_rate == rate


@given(n=st.integers(1, 98))
def test_with_few_rows_the_default_rate_is_the_smallest_there_is(n):
    calibration = one_to(n)

    assert calibration.default_false_positive_rate == pytest.approx(1 / (n + 1), rel=0.01)
    assert default_threshold(calibration) == n


def default_threshold(calibration):
    return calibration.threshold("mse", calibration.default_false_positive_rate)


def test_the_default_threshold_is_that_of_the_default_measure_and_rate():
    assert default_threshold(one_to(999)) == 990.0


@pytest.mark.parametrize(
    ("score", "p_value"),
    [
        (0, 1.0),  # (1 + 4) / 5
        (1, 1.0),
        (1.5, 0.8),
        (2, 0.8),  # two equal scores count, both
        (2.5, 0.4),
        (3, 0.4),
        (4, 0.2),  # never zero
        (np.inf, 0.2),
    ],
)
def test_a_p_value_by_hand(score, p_value):
    calibration = calibration_of(1, 2, 2, 3)

    p_values = calibration.p_values("mse", np.array([score], np.float32))

    assert p_values.dtype == np.float64
    assert p_values.tolist() == [p_value]


@settings(max_examples=60)
@given(
    reference=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    scores=st.lists(st.integers(-1, 10), min_size=1, max_size=10),
)
def test_p_values_count_the_scores_that_are_as_high(reference, scores):
    p_values = calibration_of(*reference).p_values("mse", np.array(scores, np.float32))

    assert p_values.tolist() == [
        (1 + sum(other >= score for other in reference)) / (1 + len(reference)) for score in scores
    ]


@pytest.mark.parametrize("measure", ["mse", "rapp"])
@settings(max_examples=75)
@given(
    reference=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    rate=st.one_of(RATES, st.integers(1, 60).map(lambda parts: 1 / parts if parts > 1 else 0.5)),
)
def test_a_score_lies_above_the_threshold_if_and_only_if_its_p_value_is_within_the_rate(
    measure, reference, rate
):
    calibration = calibration_of(5, **{measure: np.array(reference, np.float32)})
    n = len(reference)
    exact = Fraction(str(rate))
    if exact * (n + 1) < 1:
        return
    threshold = np.float32(calibration.find_threshold(measure, "conformal", rate).value)
    around = [np.nextafter(threshold, np.float32(limit)) for limit in (-np.inf, np.inf)]
    scores = np.array([*reference, threshold, *around, -1, 13], np.float32)

    is_above = scores > threshold
    counts = np.rint(calibration.p_values(measure, scores) * (n + 1)).astype(int).tolist()

    assert threshold == calibration.threshold(measure, rate)
    assert is_above.tolist() == [Fraction(count, n + 1) <= exact for count in counts]


@pytest.mark.parametrize(
    ("threshold", "rate"),
    [(0, 1.0), (1, 0.8), (1.5, 0.8), (2, 0.4), (2.5, 0.4), (3, 0.2), (99, 0.2), (1e300, 0.2)],
)
def test_the_rate_above_a_threshold_by_hand(threshold, rate):
    assert calibration_of(1, 2, 2, 3).rate_above("mse", threshold) == rate


@given(n=st.integers(1, 200), k=st.integers(1, 200))
def test_the_rate_above_a_threshold_gives_that_threshold_again(n, k):
    calibration, score = one_to(n), min(k, n)

    rate = calibration.rate_above("mse", score)

    assert Fraction(rate).limit_denominator(1000) == Fraction(n + 1 - score, n + 1)


@pytest.mark.parametrize("ask", ["threshold", "p_values", "rate_above"])
def test_a_measure_without_scores_is_refused(ask):
    calibration = calibration_of(1, 2, rapp=np.ones(2))

    with pytest.raises(UnsupportedOperationError, match="not calibrated") as caught:
        getattr(calibration, ask)("mae", 0.5)

    assert caught.value.expected == "mse or rapp"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"default_measure": "mae"}, "default measure", id="no default measure"),
        pytest.param({"scores": {}}, "default measure", id="no scores"),
        pytest.param({"scores": {"mse": np.array([])}}, "ascending", id="empty scores"),
        pytest.param({"scores": {"mse": np.array([1, np.nan])}}, "ascending", id="NaN"),
        pytest.param({"scores": {"mse": np.array([1, np.inf])}}, "ascending", id="infinity"),
        pytest.param({"scores": {"mse": np.ones((2, 2))}}, "ascending", id="scores in a square"),
        pytest.param({"errors": np.zeros(3)}, "heat map", id="no error at all"),
        pytest.param({"errors": np.array([np.nan])}, "heat map", id="error of NaN"),
        pytest.param({"errors": np.array([np.inf] * 2000)}, "heat map", id="error of infinity"),
    ],
)
def test_numbers_that_no_calibration_has_are_refused(changed, message):
    fields: dict[str, Any] = {
        "scores": {"mse": np.ones(2)},
        "default_measure": "mse",
        "errors": np.ones(3),
        "model_sha256": "",
    }

    with pytest.raises(PackageError, match=message):
        calibrate(**(fields | changed))


def test_what_is_written_reads_back_the_same():
    calibration = calibration_of(0.1, 0.3, 0.2, rapp=np.array([5, 4], np.float32))

    read = read_calibration(calibration.to_bytes())

    assert read.scores.keys() == calibration.scores.keys()
    for measure, scores in calibration.scores.items():
        assert read.scores[measure].dtype == np.float32
        assert read.scores[measure].tobytes() == scores.tobytes()
    assert read.default_measure == "mse"
    assert read.heat_map_high == calibration.heat_map_high
    assert read.model_sha256 == "abc"


def archive(**changed):
    """A calibration file with any fields; None leaves one out."""
    fields: dict[str, Any] = {
        "scores_mse": np.array([1, 2], np.float32),
        "default_measure": np.array("mse"),
        "heat_map_high": np.array(0.5),
        "model_sha256": np.array("abc"),
    }
    fields = {name: value for name, value in (fields | changed).items() if value is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **fields)
    return buffer.getvalue()


def test_an_archive_of_the_right_fields_is_a_calibration():
    assert isinstance(read_calibration(archive()), Calibration)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"default_measure": None}, id="no default measure"),
        pytest.param({"heat_map_high": None}, id="no heat map scale"),
        pytest.param({"model_sha256": None}, id="no fingerprint"),
        pytest.param({"scores_mse": None}, id="no scores"),
        pytest.param({"scores_mse": np.array([2, 1], "f4")}, id="scores out of order"),
        pytest.param({"scores_mse": np.array([1, 2], "f8")}, id="scores in double precision"),
        pytest.param({"scores_mse": np.array(["a", "b"])}, id="scores of text"),
        pytest.param({"scores_mse": np.float32(1)}, id="a single score"),
        pytest.param({"scores_mse": np.array([], "f4")}, id="empty scores"),
        pytest.param({"scores_mse": np.array([1, np.nan], "f4")}, id="scores of NaN"),
        pytest.param({"scores_mse": np.array([{}, 1])}, id="pickled scores"),
        pytest.param({"default_measure": np.array("mae")}, id="a default without scores"),
        pytest.param({"default_measure": np.array([{}])}, id="pickled default measure"),
        pytest.param({"heat_map_high": np.array([1.0, 2.0])}, id="two heat map scales"),
        pytest.param({"heat_map_high": np.array("high")}, id="heat map scale of text"),
        pytest.param({"heat_map_high": np.array(0.0)}, id="heat map scale of zero"),
        pytest.param({"heat_map_high": np.array(-1.0)}, id="negative heat map scale"),
        pytest.param({"heat_map_high": np.array(np.nan)}, id="heat map scale of NaN"),
    ],
)
def test_an_archive_of_other_fields_is_refused(changed):
    with pytest.raises(PackageError, match="calibration"):
        read_calibration(archive(**changed))


def zipped(content, *, name="scores_mse.npy", method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        made.writestr(name, content)
    return buffer.getvalue()


def npy_header(text):
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def encrypted(data):
    """Set the flag of encryption in both headers of the first member."""
    marked = bytearray(data)
    marked[6] |= 1
    marked[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(marked)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(b"\x80\x04]\x94.", id="pickle"),
        pytest.param(archive()[:100], id="cut off"),
        pytest.param(archive()[:-30], id="directory cut off"),
        pytest.param(
            npy_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0,)}"), id="npy"
        ),
        pytest.param(zipped(b"no npy"), id="member that is no array"),
        pytest.param(zipped(npy_header(b"{'descr': (")), id="member with a broken header"),
        pytest.param(
            zipped(npy_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}")),
            id="member without its data",
        ),
        pytest.param(
            zipped(b"a", method=zipfile.ZIP_LZMA).replace(b"\x0e\0", b"\x63\0"), id="method"
        ),
        pytest.param(encrypted(archive()), id="encrypted"),
    ],
)
def test_bytes_that_are_no_archive_are_refused(data):
    with pytest.raises(PackageError, match="cannot be read"):
        read_calibration(data)


@settings(max_examples=75)
@given(share=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_archive_is_refused_or_reads_the_same(share, byte):
    calibration = calibration_of(1, 2, 3)
    data = bytearray(calibration.to_bytes())
    data[int(share * len(data))] = byte

    try:
        read = read_calibration(bytes(data))
    except PackageError:
        return

    assert read.scores["mse"].tolist() == [1.0, 2.0, 3.0]
    assert read.model_sha256 == "abc"
