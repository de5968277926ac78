"""Options from the query and from the body."""

import pytest

from service.api.options import Options, ScoreOptions, read_options
from service.errors import InvalidRowsError


def test_without_any_option_the_defaults_hold():
    options = read_options(ScoreOptions, {}, {})

    assert options == ScoreOptions()
    assert (options.metric, options.threshold, options.include) == (None, None, ())


def test_options_of_query_and_body_are_joined():
    options = read_options(ScoreOptions, {"metric": "mse"}, {"threshold": 0.5})

    assert (options.metric, options.threshold) == ("mse", 0.5)


@pytest.mark.parametrize(
    ("text", "wanted"), [("0.5", 0.5), ("1e-3", 0.001), ("7", 7.0), ("-2", -2.0)]
)
def test_a_number_in_a_query_is_text(text, wanted):
    assert read_options(ScoreOptions, {"threshold": text}, {}).threshold == wanted


@pytest.mark.parametrize(("text", "wanted"), [("true", True), ("1", True), ("false", False)])
def test_a_boolean_in_a_query_is_text(text, wanted):
    assert read_options(Options, {"resize": text}, {}).resize is wanted


@pytest.mark.parametrize("value", [1, 0.25])
def test_a_number_in_a_body_is_a_number(value):
    assert read_options(ScoreOptions, {}, {"threshold": value}).threshold == value


@pytest.mark.parametrize(
    "given", ["feature_errors", " feature_errors ", "feature_errors,feature_errors"]
)
def test_parts_in_a_query_are_separated_by_commas(given):
    assert set(read_options(ScoreOptions, {"include": given}, {}).include) == {"feature_errors"}


@pytest.mark.parametrize("given", [["feature_errors"], "feature_errors"])
def test_parts_in_a_body_are_a_list_or_text(given):
    assert read_options(ScoreOptions, {}, {"include": given}).include == ("feature_errors",)


def test_no_parts_are_an_empty_list():
    assert read_options(ScoreOptions, {}, {"include": []}).include == ()


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"metric": "mse"}, {"metric": "mse"}),
        ({"threshold": "1"}, {"threshold": 2}),
    ],
)
def test_an_option_in_both_places_is_refused(query, fields):
    with pytest.raises(InvalidRowsError, match="twice"):
        read_options(ScoreOptions, query, fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": "0.5"},
        {"threshold": True},
        {"threshold": None, "metric": 1},
        {"metric": ["mse"]},
        {"include": 3},
        {"include": [["feature_errors"]]},
        {"resize": "true"},
        {"resize": 1},
    ],
    ids=str,
)
def test_a_body_converts_nothing(fields):
    with pytest.raises(InvalidRowsError, match="is wrong"):
        read_options(ScoreOptions, {}, fields)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "x"])
def test_a_number_in_a_query_must_be_finite(text):
    with pytest.raises(InvalidRowsError, match="'threshold' is wrong"):
        read_options(ScoreOptions, {"threshold": text}, {})


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        (Options, "resize"),
        (ScoreOptions, "explain, false_positive_rate, include, method, metric, resize, threshold"),
    ],
)
def test_an_unknown_option_is_refused_with_those_there_are_and_not_repeated(kind, known):
    with pytest.raises(InvalidRowsError) as caught:
        read_options(kind, {"colour": "red"}, {})

    assert known in str(caught.value.expected)
    assert "colour" not in f"{caught.value}{caught.value.expected}{caught.value.received}"


@pytest.mark.parametrize("value", ["my-secret", ["my-secret"], {"my-secret": 1}], ids=str)
@pytest.mark.parametrize("name", ["threshold", "include", "resize"])
def test_a_wrong_value_is_not_repeated(name, value):
    with pytest.raises(InvalidRowsError) as caught:
        read_options(ScoreOptions, {}, {name: value})

    assert "secret" not in f"{caught.value}{caught.value.expected}{caught.value.received}"
