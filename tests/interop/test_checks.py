"""What the scripts of the clients rest on; this alone is part of ``make test``."""

import re

import numpy as np
import pytest

from tests.interop.checks import Checks, NotSoError, must, same_bits
from tests.interop.environments import REQUIREMENTS

ONES = np.ones((2, 3), np.float32)


def test_equal_arrays_pass():
    same_bits(ONES.copy(), ONES)


@pytest.mark.parametrize(
    "other",
    [
        np.nextafter(ONES, np.float32(2)),
        ONES.astype(np.float64),
        ONES.reshape(3, 2),
        ONES[:1],
        ONES.ravel().tolist(),
    ],
    ids=["last bit", "element type", "shape", "fewer rows", "list"],
)
def test_arrays_that_differ_in_anything_do_not(other):
    with pytest.raises(NotSoError):
        same_bits(other, ONES)


def test_the_sign_of_zero_is_a_bit_too():
    with pytest.raises(NotSoError, match="1 of 4 bytes"):
        same_bits(np.array([-0.0], np.float32), np.array([0.0], np.float32))


def test_a_failed_check_is_told_and_counted_and_the_next_is_made(capsys):
    checks = Checks()
    with checks.check("a first"):
        must(is_so=False, otherwise="it is not so")
    with checks.check("a second"):
        int("a fault of the client's own")
    with checks.check("a third"):
        pass

    told = capsys.readouterr().out.splitlines()
    assert checks.failed == 2
    assert [line.split()[0] for line in told] == ["FAILED", "FAILED", "ok"]
    assert told[0].endswith("a first: NotSoError: it is not so")


@pytest.mark.parametrize("file", sorted(REQUIREMENTS.iterdir()), ids=lambda file: file.stem)
def test_the_lists_of_requirements_hold_names_and_versions_and_nothing_else(file):
    for line in file.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9_-]+==[0-9.]+(post[0-9]+)?", line), line
