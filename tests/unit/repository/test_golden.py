import io

import numpy as np
import pytest

from service.errors import PackageError
from service.repository.golden import GoldenRows, read_golden_rows

ROWS = np.random.default_rng(12).random((3, 4), np.float32)
CODES = ROWS[:, :2]


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_what_was_written_is_read_again():
    golden = read_golden_rows(GoldenRows(ROWS, {"code": CODES, "score": ROWS[:, 0]}).to_bytes())

    np.testing.assert_array_equal(golden.rows, ROWS)
    assert set(golden.answers) == {"code", "score"}
    np.testing.assert_array_equal(golden.answers["code"], CODES)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        archive(input=ROWS)[:-30],
        archive(code=CODES),
        archive(input=np.array([{}, {}], dtype=object)),
    ],
    ids=["empty", "not an archive", "cut short", "no rows in it", "pickled objects"],
)
def test_a_file_that_is_not_golden_rows_is_refused(data):
    with pytest.raises(PackageError, match="cannot be read"):
        read_golden_rows(data)


def test_a_single_array_is_not_an_archive():
    buffer = io.BytesIO()
    np.save(buffer, ROWS)

    with pytest.raises(PackageError, match="cannot be read"):
        read_golden_rows(buffer.getvalue())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"input": np.empty((0, 4))}, "no golden rows"),
        ({"input": np.float32(1)}, "no golden rows"),
        ({"input": ROWS, "code": CODES[:2]}, "one code each"),
        ({"input": ROWS, "score": np.float32(1)}, "one score each"),
        ({"input": np.float32(1), "score": np.float32(1)}, "one score each"),
        ({"input": ROWS, "code": CODES * np.nan}, "code is not a finite"),
        ({"input": ROWS, "code": np.array(["a", "b", "c"])}, "code is not a finite"),
    ],
    ids=["no rows", "a number", "too few", "one answer", "no axis", "not finite", "text"],
)
def test_answers_must_be_finite_numbers_for_each_row(arrays, message):
    with pytest.raises(PackageError, match=message):
        read_golden_rows(archive(**arrays))


def test_damage_anywhere_is_never_anything_but_a_fault_of_the_package():
    random = np.random.default_rng(0)
    data = GoldenRows(ROWS, {"code": CODES}).to_bytes()
    refused = 0
    for _ in range(300):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[random.integers(len(damaged), size=2)] = random.integers(256, size=2)
        try:
            read_golden_rows(damaged.tobytes())
        except PackageError:
            refused += 1

    assert refused > 150
