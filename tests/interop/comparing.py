"""Compare the answers of a server with those of the framework that a model comes from."""

import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx2
import numpy as np
from PIL import Image

from tests.interop.case import Case
from tests.interop.checks import equal, must

NPY: Final = "application/x-npy"
# 1 is what graphs most easily get wrong, 7 divides nothing
BATCHES: Final = (1, 2, 7, 64)
# of each operation: what it takes and gives, as arrays of the case, and its field in JSON
OPERATIONS: Final[Mapping[str, tuple[str, str, str]]] = {
    "encode": ("rows", "code", "codes"),
    "decode": ("code", "decoded", "reconstructions"),
    "reconstruct": ("rows", "reconstruction", "reconstructions"),
    "anomaly-score": ("rows", "score", "scores"),
}
# how far from the middle between two colours a value must be for its pixel to be decided
UNDECIDED: Final = 1e-3
COLOURS: Final = 255


def expected(case: Case) -> dict[str, Any]:
    """Give the arrays of a case, and the scores that follow from the framework's answers."""
    arrays = dict(case.answers)
    if "reconstruction" in arrays:
        errors = np.asarray(arrays["rows"], np.float64) - arrays["reconstruction"]
        arrays["score"] = ((errors / case.width) ** 2).reshape(len(errors), -1).mean(axis=1)
    return arrays


def operations(arrays: Mapping[str, Any]) -> list[str]:
    """Name the operations for which there are expected answers."""
    return [
        name for name, (source, target, _) in OPERATIONS.items() if {source, target} <= {*arrays}
    ]


def compare(client: httpx2.Client, case: Case) -> dict[str, float]:
    """Give the largest difference of each operation, over all batch sizes and both formats.

    Raises:
        NotSoError: The model has other operations, or answers in another shape or type.
    """
    arrays = expected(case)
    wanted = operations(arrays)
    card = client.get(f"/v1/models/{case.name}").raise_for_status().json()
    equal(sorted(card["operations"]), sorted(wanted), "the list of operations")
    return {name: max(_differences(client, case.name, name, arrays)) for name in wanted}


def difference(given: Any, wanted: Any) -> float:
    """Give the largest difference, relative to ``max(1, |wanted|)``.

    Raises:
        NotSoError: Shapes differ, whole numbers do, or there are answers that are no numbers.
    """
    given, wanted = np.asarray(given), np.asarray(wanted)
    equal(given.shape, wanted.shape, "the shape")
    # of int64 a float64 would hide the last digits
    if np.issubdtype(wanted.dtype, np.integer):
        must(np.array_equal(given, wanted), "whole numbers differ")
        return 0.0
    wanted = wanted.astype(np.float64)
    relative = np.abs(given.astype(np.float64) - wanted) / np.maximum(1.0, np.abs(wanted))
    must(np.isfinite(relative).all(), "there are answers that are no numbers")
    return float(relative.max())


def _differences(
    client: httpx2.Client, model: str, operation: str, arrays: Mapping[str, Any]
) -> Iterator[float]:
    source, target, name = OPERATIONS[operation]
    for batch in BATCHES:
        rows, wanted = arrays[source][:batch], arrays[target][:batch]
        path = f"/v1/models/{model}/{operation}"
        answer = client.post(path, json={"inputs": rows.tolist()})
        yield difference(_answered(answer).json()[name], wanted)
        headers = {"Content-Type": NPY, "Accept": NPY}
        answer = client.post(path, content=_npy(rows), headers=headers)
        given = np.load(io.BytesIO(_answered(answer).content))
        if operation in {"encode", "reconstruct", "decode"}:
            equal(str(given.dtype), str(wanted.dtype), "the element type")
        yield difference(given, wanted)


def compare_picture(client: httpx2.Client, case: Case) -> str:
    """Send a picture as PNG, and compare the PNG that comes back pixel by pixel.

    A pixel whose value lies in the middle between two colours may become either.

    Raises:
        NotSoError: Another pixel differs.
    """
    picture, values = case.answers["picture"], case.answers["picture_values"]
    answer = client.post(
        f"/v1/models/{case.name}/reconstruct",
        content=_png(picture),
        headers={"Content-Type": "image/png", "Accept": "image/png"},
    )
    given = np.asarray(Image.open(io.BytesIO(_answered(answer).content)))
    wanted = np.rint(values).astype(np.uint8)
    equal(given.shape, wanted.shape, "the shape of the picture")
    is_undecided = np.abs(values - np.floor(values) - 0.5) < UNDECIDED
    differing = given != wanted
    wrong = int((differing & ~is_undecided).sum())
    must(not wrong, f"{wrong} of {given.size} values of the picture differ")
    return f"{int(differing.sum())} of {given.size} values of the picture differ"


def _answered(answer: httpx2.Response) -> httpx2.Response:
    must(answer.status_code == httpx2.codes.OK, f"{answer.status_code}: {answer.text[:500]}")
    return answer


def _npy(rows: Any) -> bytes:
    body = io.BytesIO()
    np.save(body, rows)
    return body.getvalue()


def _png(pixels: Any) -> bytes:
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    return body.getvalue()
