"""``hourglass import`` as it is typed: statuses, questions, damaged files, and then serving."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from service.cli import main
from service.settings import ENVIRONMENT_PREFIX, Settings
from tests import foreign
from tests.conftest import serve
from tests.unit.test_logs import untouched_logging

__all__ = ["untouched_logging"]

pytestmark = pytest.mark.usefixtures("untouched_logging")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(ENVIRONMENT_PREFIX + name.upper(), raising=False)


@pytest.fixture
def typed(tmp_path, capsys):
    """Type a command about a file with some content; gives its exit status and what it said."""

    def type_command(data, *arguments, name="made"):
        path = tmp_path / "foreign.onnx"
        path.write_bytes(data)
        models = ["--models", str(tmp_path / "models")]
        status = main(["import", str(path), "--name", name, *models, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return type_command


def test_a_package_is_written_and_the_next_commands_are_named(typed, tmp_path):
    status, out, err = typed(foreign.dense())

    assert (status, err) == (0, "")
    assert out.startswith("made/1  written\n")
    assert f"hourglass check --models {tmp_path / 'models'}" in out
    assert (tmp_path / "models" / "made" / "1" / "model.json").exists()


def test_what_was_imported_is_served(typed, tmp_path):
    rows = np.random.default_rng(2).normal(10, 3, (3, 12)).astype(np.float32)
    status, *_ = typed(foreign.dense(1), "--mean", "10", "--std", "3")
    assert status == 0

    with serve(tmp_path / "models") as client:
        answer = client.post("/v1/models/made/reconstruct", json={"inputs": rows.tolist()})

    assert answer.status_code == 200, answer.text
    assert np.isfinite(answer.json()["reconstructions"]).all()


def test_a_model_of_one_row_at_a_time_is_served_to_many(typed, tmp_path):
    rows = np.random.default_rng(2).normal(size=(5, 12)).astype(np.float32)
    assert typed(foreign.stubborn())[0] == 0

    with serve(tmp_path / "models") as client:
        answer = client.post("/v1/models/made/encode", json={"inputs": rows.tolist()})

    assert answer.status_code == 200, answer.text
    assert np.shape(answer.json()["codes"]) == (5, 3)


def test_a_question_ends_with_2_and_a_table(typed):
    status, out, err = typed(foreign.two_stages())

    assert (status, out) == (2, "")
    assert "first   [3]    3       Relu" in err
    assert "--code TENSOR" in err


def test_a_file_that_cannot_be_used_ends_with_1(typed):
    status, out, err = typed(foreign.variational(draws=True))

    assert (status, out) == (1, "")
    assert "RandomNormalLike" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "No Name"],
        ["--version", "0"],
        ["--range", "1"],
        ["--range", "a,b"],
        ["--mean", "x"],
        ["--shape", "0,2"],
        ["--layer", "nothing"],
        ["--rows", "gone.npy"],
        ["--image", "CMYK"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_ends_with_2_and_is_named(typed, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        typed(foreign.dense(), *arguments)

    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_options_are_read_from_files_too(typed, tmp_path):
    np.save(tmp_path / "mean.npy", np.arange(12.0))
    (tmp_path / "names.txt").write_text("\n".join("abcdefghijkl"), "utf-8")

    status, out, err = typed(
        foreign.dense(),
        *("--mean", str(tmp_path / "mean.npy"), "--features", str(tmp_path / "names.txt")),
        *("--range", "-4,20", "--dry-run"),
    )

    assert (status, err) == (0, "")
    assert "the input is scaled in the graph" in out


def test_cut_files_are_an_error_and_no_traceback(typed):
    data = foreign.conv_flat(1)
    for length in range(0, len(data), len(data) // 40):
        status, out, err = typed(data[:length], "--dry-run")
        assert (status, out) == (1, ""), length
        assert err.startswith("hourglass: foreign.onnx ")


def test_flipped_bits_are_an_error_or_another_model_and_no_traceback(typed):
    """Bits of weights only change answers; those of the structure must end in words."""
    chance = random.Random(5)  # noqa: S311 - to be the same every time
    data = foreign.dense()
    statuses = set()
    for _ in range(24):
        broken = bytearray(data)
        for _ in range(4):
            broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        status, _, err = typed(bytes(broken), "--dry-run", "--no-code")
        assert status in {0, 1, 2}
        assert (status == 0) == (err == "")
        statuses.add(status)
    assert 1 in statuses


def test_every_option_is_in_the_document(capsys):
    text = (Path(__file__).parents[2] / "docs" / "import.md").read_text("utf-8")
    with pytest.raises(SystemExit):
        main(["import", "--help"])

    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(options) > 20
    assert [each for each in sorted(options) if f"`{each}" not in text] == []
