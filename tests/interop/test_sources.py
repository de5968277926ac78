"""How answers for imported models are judged; part of ``make test``, as it needs no framework."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.e2e.server import ROOT
from tests.interop import comparing, environments, exporters, table
from tests.interop.case import Case
from tests.interop.checks import NotSoError
from tests.interop.comparing import BATCHES, NPY, OPERATIONS, compare, difference

ROWS = np.random.default_rng(0).uniform(size=(64, 3)).astype(np.float32)
Handler = Callable[[str, Any], Any]


def a_case(**changes: Any) -> Case:
    answers = {
        "rows": ROWS,
        "code": ROWS[:, :2],
        "decoded": ROWS * 2,
        "reconstruction": ROWS * 2,
    }
    return replace(Case("pump", "nobody", ["pump.onnx"], answers), **changes)


def a_service(answer: Handler, operations: list[str] | None = None) -> httpx2.Client:
    """Stand in for the service; *answer* gives an array for an operation and rows."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json={"operations": operations or [*OPERATIONS]})
        operation = request.url.path.rpartition("/")[2]
        if request.headers["content-type"] == NPY:
            body = io.BytesIO()
            np.save(body, answer(operation, np.load(io.BytesIO(request.content))))
            return httpx2.Response(200, content=body.getvalue())
        rows = np.array(json.loads(request.content)["inputs"], np.float32)
        field = OPERATIONS[operation][2]
        return httpx2.Response(200, json={field: answer(operation, rows).tolist()})

    return httpx2.Client(base_url="http://test", transport=httpx2.MockTransport(handle))


def right(operation: str, rows: Any) -> Any:
    """Answer as the framework of ``a_case`` does."""
    return {
        "encode": lambda: rows[:, :2],
        "decode": lambda: 2 * ROWS[: len(rows)],
        "reconstruct": lambda: rows * 2,
        "anomaly-score": lambda: (rows.astype(np.float64) ** 2).mean(axis=1),
    }[operation]()


def test_differences_are_relative_where_values_are_large_and_absolute_where_they_are_small():
    assert difference([100.0, 0.0], [200.0, 0.0]) == 0.5
    assert difference([0.25], [0.0]) == 0.25


@pytest.mark.parametrize("given", [[1.0], [[1.0, 2.0]], [1.0, np.nan], [np.inf, 2.0]], ids=str)
def test_another_shape_or_no_number_is_no_small_difference(given):
    with pytest.raises(NotSoError):
        difference(given, np.array([1.0, 2.0]))


def test_whole_numbers_must_be_equal_to_the_last_digit():
    large = np.array([2**60], np.int64)

    assert difference(large, large) == 0.0
    with pytest.raises(NotSoError):
        difference(large + 1, large)


def test_right_answers_differ_by_nothing_worth_telling():
    differences = compare(a_service(right), a_case())

    assert list(differences) == list(OPERATIONS)
    assert max(differences.values()) < 1e-7


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("batch", BATCHES[1:])
def test_rows_that_are_mixed_up_in_one_batch_are_found(operation, batch):
    def mixed(asked: str, rows: Any) -> Any:
        given = right(asked, rows)
        return given[::-1] if (asked, len(rows)) == (operation, batch) else given

    assert compare(a_service(mixed), a_case())[operation] > 1e-3


def test_an_operation_that_should_not_be_there_is_found():
    answers = {"rows": ROWS, "reconstruction": ROWS * 2}

    with pytest.raises(NotSoError, match="the list of operations"):
        compare(a_service(right), a_case(answers=answers))


def test_without_a_code_there_is_nothing_to_encode_or_decode():
    answers = {"rows": ROWS, "reconstruction": ROWS * 2}
    service = a_service(right, ["anomaly-score", "reconstruct"])

    assert list(compare(service, a_case(answers=answers))) == ["reconstruct", "anomaly-score"]


def test_another_element_type_is_found():
    def wide(operation: str, rows: Any) -> Any:
        return right(operation, rows).astype(np.float64)

    with pytest.raises(NotSoError, match="element type"):
        compare(a_service(wide), a_case())


def test_scores_are_divided_by_the_width_of_the_range():
    rows = np.array([[0.0, 1.0], [1.0, 1.0]], np.float32)
    case = a_case(width=2.0, answers={"rows": rows, "reconstruction": np.zeros_like(rows)})

    assert comparing.expected(case)["score"].tolist() == [0.125, 0.25]


@pytest.mark.parametrize(
    ("value", "given", "is_right"),
    [(10.2, 10, True), (10.2, 11, False), (10.5004, 10, True), (10.5004, 11, True)],
)
def test_a_pixel_may_be_either_only_in_the_middle_between_two_colours(value, given, is_right):
    picture = np.zeros((2, 2, 3), np.uint8)
    values = np.full((2, 2, 3), 10.0)
    values[0, 0, 0] = value
    body = io.BytesIO()
    pixels = np.full((2, 2, 3), 10, np.uint8)
    pixels[0, 0, 0] = given
    Image.fromarray(pixels).save(body, "PNG")
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body.getvalue()))
    client = httpx2.Client(base_url="http://test", transport=transport)
    case = a_case(answers={"picture": picture, "picture_values": values})

    if is_right:
        comparing.compare_picture(client, case)
    else:
        with pytest.raises(NotSoError, match="1 of 12 values"):
            comparing.compare_picture(client, case)


def test_a_case_is_read_as_it_was_written(tmp_path):
    case = a_case(tolerance=1e-3, why="it is coarse", says=["one row"], is_refused=True)
    case.write(tmp_path)

    read = Case.read(tmp_path)

    assert {**vars(read), "answers": None} == {**vars(case), "answers": None}
    assert read.answers.keys() == case.answers.keys()
    assert np.array_equal(read.answers["code"], case.answers["code"])
    assert np.array_equal(np.load(tmp_path / "rows.npy"), ROWS)


@pytest.mark.parametrize(
    ("is_refused", "status", "said"),
    [(False, 1, "one row"), (True, 0, "one row"), (False, 0, "nothing of it")],
    ids=["it failed", "it was not refused", "it said nothing of it"],
)
def test_an_import_that_ends_otherwise_or_does_not_say_it_is_found(is_refused, status, said):
    with pytest.raises(NotSoError):
        exporters.judge(a_case(says=["one row"], is_refused=is_refused), status, said)


def test_the_table_holds_a_figure_for_each_operation_and_tells_of_other_tolerances():
    coarse = a_case(name="coarse", tolerance=2e-3, why="it is coarse")
    rows = [
        table.Row(a_case(), {"encode": 0.0, "reconstruct": 1.23e-7, "anomaly-score": 2e-9}),
        table.Row(coarse, {}),
    ]

    assert table.markdown(rows).splitlines()[2:] == [
        "| `pump` | nobody | 0 | - | 1e-07 | 2e-09 |",
        "| `coarse` | nobody | - | - | - | - |",
        "",
        "`coarse` within 2e-03: it is coarse.",
    ]


@pytest.mark.parametrize("source", exporters.SOURCES.values(), ids=list(exporters.SOURCES))
def test_every_source_has_its_script_and_its_list(source):
    assert (ROOT / "tests" / "interop" / "sources" / f"{source.script}.py").exists()
    assert (environments.REQUIREMENTS / f"{source.environment}.txt").exists()


@pytest.mark.parametrize("name", ["torch", "sklearn", "keras"])
def test_the_recipes_of_the_document_are_the_files_that_are_run(name):
    recipe = ROOT / "tests" / "interop" / "sources" / f"recipe_{name}.py"
    document = (ROOT / "docs" / "exporting.md").read_text(encoding="utf-8")

    assert f"```python\n{recipe.read_text(encoding='utf-8')}```\n" in document
