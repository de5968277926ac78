"""A request with several faults: the first ten are named, whichever body they came in."""

import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.api.errors import problem_of
from service.api.options import Options, ScoreOptions, read_options
from service.bodies import json as json_body
from service.errors import InvalidRowsError, MalformedBodyError, RequestError, together
from service.specs import TensorSpec
from tests.api import wire
from tests.api.wire import JSON, NPY, RAW, problem, url
from tests.conftest import serve

GOOD = [0.25, 0.5, 0.75, 1.0]
ENCODE = url("tabular", "encode")


def send(client, inputs: Any, model: str = "tabular", operation: str = "encode") -> dict[str, Any]:
    return problem(client.post(url(model, operation), json={"inputs": inputs}))


def named(body: dict[str, Any]) -> list[tuple[int, str]]:
    return [(fault["row"], fault["detail"]) for fault in body["faults"]]


OUT_OF_RANGE = "a value is out of the model's declared range"
NO_NUMBERS = "a row holds something else than numbers"
WRONG_SHAPE = "rows have the wrong shape: [4] each"


def test_one_fault_has_no_list(client):
    body = send(client, [GOOD, [0, 0, 0, 7]])

    assert body["row"] == 1
    assert "faults" not in body
    assert "faults_total" not in body


def test_the_first_of_several_faults_stands_above_the_list_too(client):
    body = send(client, [GOOD, [0, 0, 0, 7], GOOD, [0, -7, 0, 0]])

    assert body["faults"] == [
        {"detail": OUT_OF_RANGE, "row": 1, "expected": "0 to 1", "received": "a larger value"},
        {"detail": OUT_OF_RANGE, "row": 3, "expected": "0 to 1", "received": "a smaller value"},
    ]
    assert body["faults_total"] == 2
    assert {name: body[name] for name in body["faults"][0]} == body["faults"][0]


@pytest.mark.parametrize("media", [JSON, NPY, RAW])
def test_of_many_bad_rows_the_first_ten_are_named_and_all_are_counted(client, media):
    rows = np.zeros((40, 4), np.float32)
    rows[5:30] = 2
    body = {JSON: json.dumps({"inputs": rows.tolist()}).encode(), NPY: wire.npy(rows)}

    answer = client.post(
        ENCODE, content=body.get(media, rows.tobytes()), headers={"content-type": media}
    )

    assert named(problem(answer)) == [(row, OUT_OF_RANGE) for row in range(5, 15)]
    assert problem(answer)["faults_total"] == 25


def test_faults_of_different_kinds_stand_in_the_order_of_their_rows(client):
    rows = [GOOD, [0, 0, 0, 7], [0, "1", 0, 0], GOOD, [0, 0, 0], [0, [0], 0, 0], [1e39, 0, 0, 0]]

    body = send(client, rows)

    assert named(body) == [
        (1, OUT_OF_RANGE),
        (2, NO_NUMBERS),
        (4, WRONG_SHAPE),
        (5, "a row is ragged"),
        (6, "a value does not fit into float32"),
    ]
    assert (body["row"], body["detail"]) == (1, OUT_OF_RANGE)


def test_the_values_of_an_array_are_told_apart(client):
    rows = np.zeros((5, 4))
    rows[1, 2], rows[2, 0], rows[4, 3] = np.nan, 1e39, -1

    answer = client.post(ENCODE, content=wire.npy(rows), headers={"content-type": NPY})

    assert named(problem(answer)) == [
        (1, "a value is not finite"),
        (2, "a value does not fit into float32"),
        (4, OUT_OF_RANGE),
    ]


def test_integers_that_do_not_fit_are_all_named(client):
    rows = np.array([[1, 2], [2**63, 0], [3, 4], [0, 2**64 - 1]], np.uint64)

    answer = client.post(
        url("integers", "encode"), content=wire.npy(rows), headers={"content-type": NPY}
    )

    assert [fault["row"] for fault in problem(answer)["faults"]] == [1, 3]


def test_rows_that_are_right_by_themselves_but_differ_are_told_of_the_first(client):
    small, large = np.zeros((1, 2, 2)).tolist(), np.zeros((1, 3, 3)).tolist()

    body = send(client, [small, large, large], model="any-size")

    assert (body["row"], body["expected"], body["received"]) == (1, "[1, 2, 2]", "[1, 3, 3]")
    assert "faults" not in body


def test_the_pictures_of_a_form_that_are_wrong_are_all_named(client):
    right, wrong = np.zeros((4, 4), np.uint8), np.zeros((3, 5), np.uint8)
    pictures = [wire.picture(pixels) for pixels in (right, wrong, right, wrong)]

    answer = client.post(
        url("picture", "encode"), files=wire.form(*pictures, b"no picture", pictures[0])
    )

    assert answer.status_code == 422
    assert [(fault["row"], fault.get("received")) for fault in problem(answer)["faults"]] == [
        *((1, "5x3"), (3, "5x3")),
        (4, None),
    ]


def test_after_ten_pictures_that_are_wrong_nobody_looks_further(client):
    answer = client.post(url("picture", "encode"), files=wire.form(*[b"no picture"] * 20))

    assert answer.status_code == 400
    assert [fault["row"] for fault in problem(answer)["faults"]] == [*range(10)]


def test_pictures_behind_the_last_pixel_of_the_budget_are_not_opened(zoo):
    large, small = (wire.picture(np.zeros((side, side), np.uint8)) for side in (20, 4))

    with serve(zoo, max_picture_pixels=200, required_models=("any-size",)) as client:
        answer = client.post(
            url("any-size", "encode"), files=wire.form(small, b"no picture", large, b"no picture")
        )

    assert [fault["row"] for fault in problem(answer)["faults"]] == [1, 2]


def test_parts_of_another_name_are_all_named(client):
    pictures = [wire.picture(np.zeros((4, 4), np.uint8))] * 3
    files = [*wire.form(pictures[0]), *wire.form(*pictures[1:], name="picture")]

    answer = client.post(url("picture", "encode"), files=files)

    assert [fault["row"] for fault in problem(answer)["faults"]] == [1, 2]
    assert problem(answer)["faults_total"] == 2


def test_options_that_are_wrong_are_all_named(client):
    body = {"inputs": [GOOD], "metric": 3, "include": ["everything"], "threshold": "high"}

    answer = client.post(url("tabular", "anomaly-score"), json=body)

    assert answer.status_code == 422
    assert {fault["detail"]: fault["expected"] for fault in problem(answer)["faults"]} == {
        "the option 'metric' is wrong": "a text",
        "the option 'include' is wrong": "'feature_errors', 'domain', 'regions' or 'uncertain'",
        "the option 'threshold' is wrong": "a number",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"resize": "yes please"}, "true or false"),
        ({"include": 3}, "a list of texts"),
        ({"include": [3]}, "'feature_errors', 'domain', 'regions' or 'uncertain'"),
        ({"threshold": []}, "a number"),
        ({"explain": 0}, "1 to 1000"),
        ({"explain": 1001}, "1 to 1000"),
        ({"explain": 1.5}, "a whole number"),
        ({"method": "magic"}, "'conformal', 'tail', 'mad' or 'iqr'"),
        ({"metric": {}}, "a text"),
    ],
    ids=str,
)
def test_what_an_option_must_be_is_told_in_our_own_words(given, expected):
    with pytest.raises(InvalidRowsError) as caught:
        read_options(ScoreOptions, {}, given)

    assert caught.value.expected == expected


def test_a_number_of_a_query_that_is_not_finite_is_told():
    with pytest.raises(InvalidRowsError) as caught:
        read_options(ScoreOptions, {"threshold": "nan"}, {})

    assert caught.value.expected == "a finite number"


@pytest.mark.parametrize(("count", "received"), [(1, "1 unknown"), (100_000, "100000 unknown")])
def test_unknown_options_are_counted_and_not_named(count, received):
    with pytest.raises(InvalidRowsError, match="unknown") as caught:
        read_options(Options, {}, {f"colour-{number}": 1 for number in range(count)})

    assert caught.value.received == received
    assert caught.value.others == ()


def test_more_rows_than_a_request_may_hold_are_refused_before_they_are_looked_at(client):
    answer = client.post(ENCODE, json={"inputs": [["x"]] * 5000})

    assert answer.status_code == 413
    assert problem(answer)["received"] == "5000 rows"


def spoilt(rows: int) -> bytes:
    return json.dumps({"inputs": [["x", 0, 0, 0]] * rows}).encode()


@pytest.mark.parametrize("rows", [11, 100_000])
def test_however_many_rows_are_wrong_ten_are_looked_at(rows):
    with pytest.raises(InvalidRowsError) as caught:
        json_body.parse(spoilt(rows), TensorSpec("float32", (4,)))

    assert [fault.row for fault in (caught.value, *caught.value.others)] == [*range(10)]
    assert caught.value.total is None  # nobody has counted them


def test_faults_far_behind_the_first_are_not_looked_for():
    inputs = [["x", 0, 0, 0], *[GOOD] * 5000, ["x", 0, 0, 0]]

    with pytest.raises(InvalidRowsError) as caught:
        json_body.parse(json.dumps({"inputs": inputs}).encode(), TensorSpec("float32", (4,)))

    assert (caught.value.row, caught.value.others) == (0, ())


def test_of_long_rows_fewer_are_looked_at():
    long = [0.5] * 1000
    inputs = [["x"], *[long] * 200, ["x"], *[long] * 100, ["x"]]

    with pytest.raises(InvalidRowsError) as caught:
        json_body.parse(json.dumps({"inputs": inputs}).encode(), TensorSpec("float32", (1000,)))

    assert [fault.row for fault in (caught.value, *caught.value.others)] == [0, 201]


def test_a_row_longer_than_that_is_looked_at_nevertheless():
    spec = TensorSpec("float32", (1 << 19,))

    with pytest.raises(InvalidRowsError) as caught:
        json_body.parse(b'{"inputs": [["x"], [1]]}', spec)

    assert caught.value.row == 0


def test_a_fault_far_down_is_found_and_so_are_those_behind_it():
    inputs = [*[GOOD] * 5000, ["x", 0, 0, 0], GOOD, [0]]

    with pytest.raises(InvalidRowsError) as caught:
        json_body.parse(json.dumps({"inputs": inputs}).encode(), TensorSpec("float32", (4,)))

    assert [fault.row for fault in (caught.value, *caught.value.others)] == [5000, 5002]


def refuse_strings() -> None:
    json_body.parse(spoilt(20), TensorSpec("float32", (4,)))


def refuse_values() -> None:
    json_body.parse(b'{"inputs": [[7, 7], [7, 7]]}', TensorSpec("float32", (2,), (0, 1)))


def refuse_options() -> None:
    read_options(ScoreOptions, {}, {"metric": 1, "threshold": "x"})


def caught_from(refuse: Callable[[], None]) -> weakref.ref[RequestError]:
    try:
        refuse()
    except RequestError as error:
        return weakref.ref(error)
    raise AssertionError("nothing was refused")


@pytest.mark.parametrize("refuse", [refuse_strings, refuse_values, refuse_options])
def test_an_error_of_several_faults_goes_without_the_garbage_collector(refuse):
    """In a cycle it would keep the whole body alive until the next full collection."""
    gc.collect()
    gc.disable()
    try:
        error = caught_from(refuse)

        assert error() is None
    finally:
        gc.enable()


def test_a_problem_names_as_many_faults_as_there_is_room_for(client):
    faults = [MalformedBodyError("x" * 1000, row=row) for row in range(10)]

    body = problem_of(together(faults), "id").body

    found = json.loads(body)
    assert len(body) <= 4096
    assert 0 < len(found["faults"]) < 10
    assert [fault["row"] for fault in found["faults"]] == [*range(len(found["faults"]))]


@pytest.mark.parametrize(
    "options",
    [
        {"false_positive_rate": 0.00012345},
        {"false_positive_rate": 12345.0},
        {"threshold": 12345, "false_positive_rate": 0.5},
        {"metric": "12345"},
        {"include": ["12345"]},
        {"12345": 1},
    ],
    ids=str,
)
def test_the_value_of_an_option_is_not_repeated(client, options):
    body = {"inputs": [GOOD], **options}

    answer = client.post(url("tabular", "anomaly-score"), json=body)

    told = problem(answer)
    assert answer.status_code in {409, 422}
    assert "2345" not in json.dumps({**told, "request_id": ""})
