"""The commands: flags, the environment, exit statuses, and what they print."""

import json
import re

import numpy as np
import pytest

from service import __version__
from service.cli import main
from service.commands.console import EXIT_FAULT, EXIT_USAGE
from service.keys import Holder, digest_of, line_of, read_keys
from service.settings import ENVIRONMENT_PREFIX, Settings
from tests import tiny
from tests.unit.test_logs import untouched_logging

__all__ = ["untouched_logging"]

pytestmark = pytest.mark.usefixtures("untouched_logging")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(ENVIRONMENT_PREFIX + name.upper(), raising=False)


@pytest.fixture
def repository(tmp_path):
    """A good model, an encoder alone, and a damaged one."""
    tiny.write_tabular(tmp_path, name="good")
    rows = np.zeros((2, 4), np.float32)
    pair = tiny.keeping(4, 2)[0], None
    tiny.write(tmp_path, pair, rows, name="encoder", version=3, title="Half a model")
    tiny.write_tabular(tmp_path, name="bad")
    (tmp_path / "bad" / "1" / "encoder.onnx").write_bytes(b"damaged")
    return tmp_path


def help_of(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_a_flag_of_serve_with_its_meaning_and_variable(capsys, name):
    text = help_of(capsys, "serve")

    assert "--" + name.replace("_", "-") in text
    # long words are broken at their hyphens
    packed = text.replace(" ", "")
    assert str(Settings.model_fields[name].description).replace(" ", "") in packed
    assert ENVIRONMENT_PREFIX + name.upper() in text


@pytest.mark.parametrize("command", ["serve", "check"])
def test_commands_that_make_sessions_take_every_flag_of_the_device(capsys, command):
    text = help_of(capsys, command)

    for flag in ("--device", "--device-id", "--intra-op-threads", "--cuda-memory-limit-mib"):
        assert f"{flag} " in text
    assert "--cuda-tf32" in text


@pytest.mark.parametrize("command", ["serve", "check", "seal", "models"])
def test_every_command_says_what_it_does(capsys, command):
    assert command in help_of(capsys, command)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["serve", "--no-such-flag", "1"], ["models", "--port", "1"], ["serve", "x"]],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == EXIT_USAGE
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--port", "many"], "port"),
        (["--port", "99999"], "port"),
        (["--device", "tpu"], "device"),
        (["--intra-op-threads", "all"], "intra_op_threads"),
        (["--queue-delay-ms", "-1"], "queue_delay_ms"),
        (["--log-level", "loud"], "log_level"),
        (["--max-request-rows", "9", "--max-queue-rows", "8"], "max_request_rows"),
    ],
)
def test_a_wrong_value_of_a_flag_ends_with_2_and_names_it(capsys, flags, named):
    assert main(["serve", *flags]) == EXIT_USAGE
    assert named in capsys.readouterr().err


def test_a_wrong_value_in_the_environment_ends_with_2_and_names_it(capsys, monkeypatch):
    monkeypatch.setenv("HOURGLASS_PORT", "tcp://10.0.0.1:80")

    assert main(["serve"]) == EXIT_USAGE
    assert "port" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["HOURGLASS_PROT", "HOURGLASS_", "HOURGLASS_MODEL"])
@pytest.mark.parametrize("command", ["serve", "check", "models"])
def test_an_unknown_variable_is_refused(capsys, monkeypatch, command, name):
    monkeypatch.setenv(name, "1")

    assert main([command]) == EXIT_USAGE
    assert capsys.readouterr().err == f"hourglass: there is no setting {name}\n"


def test_variables_of_others_are_none_of_our_business(monkeypatch, tmp_path):
    monkeypatch.setenv("HOURGLAS_PORT", "1")

    assert main(["models", "--models", str(tmp_path)]) == 0


def test_models_lists_every_version_by_its_manifest(capsys, repository):
    assert main(["models", "--models", str(repository)]) == 0

    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["bad/1", "encoder/3", "good/1"]
    cells = [re.split(r"\s{2,}", line) for line in lines]
    assert cells[1] == [
        *("encoder/3", "float32 [4]", "float32 [2]", "encode", "0.00 MB", "no", "Half a model")
    ]
    assert cells[2][3:] == ["encode, decode, reconstruct, anomaly-score", "0.06 MB", "999 rows"]
    # every column begins where its heading does
    assert {line.index("float32") for line in lines} == {head.index("INPUT")}
    assert lines[1].index("Half") == head.index("TITLE")


def test_models_names_a_manifest_that_cannot_be_read(capsys, tmp_path):
    (tmp_path / "empty" / "1").mkdir(parents=True)

    assert main(["models", "--models", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "empty/1  BAD  model.json is missing\n"


def test_models_reads_its_folder_from_the_environment(capsys, monkeypatch, repository):
    monkeypatch.setenv("HOURGLASS_MODELS", str(repository))

    main(["models"])

    assert "good/1" in capsys.readouterr().out


def test_a_flag_wins_over_the_environment(capsys, monkeypatch, repository, tmp_path):
    monkeypatch.setenv("HOURGLASS_MODELS", str(tmp_path / "nothing"))

    assert main(["models", "--models", str(repository)]) == 0


@pytest.mark.parametrize("command", ["models", "check"])
def test_the_folder_may_be_given_without_a_flag(capsys, repository, command):
    main([command, str(repository), *(["--device", "cpu"] if command == "check" else [])])

    assert "good/1" in capsys.readouterr().out


def test_a_title_cannot_write_on_the_terminal(capsys, tmp_path):
    rows = np.zeros((2, 4), np.float32)
    tiny.write(tmp_path, tiny.keeping(4, 2), rows, title="fine\x1b[2J\nbad/1")

    main(["models", str(tmp_path)])

    assert capsys.readouterr().out.splitlines()[1].endswith("fine?[2J?bad/1")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["check", "{}/nothing"], "is not a folder"),
        (["check", "{}", "--model", "goood"], "holds no model goood"),
        (["check", "{}", "--model", "good/2"], "holds no model good/2"),
        (["check", "{}/empty"], "holds no model package"),
        (["check", "{}", "--device", "cuda", "--device-id", "99"], "does not work"),
        (["seal", "goood", "--models", "{}"], "holds no model goood"),
    ],
    ids=["folder", "name", "version", "empty", "device", "seal"],
)
def test_what_cannot_be_checked_ends_with_2(capsys, repository, arguments, text):
    (repository / "empty").mkdir()

    assert main([argument.format(repository) for argument in arguments]) == EXIT_USAGE
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", [["--memory-mib", "0"], ["--timeout-s", "nan"], ["--timeout-s", "x"]], ids=" ".join
)
def test_a_limit_that_is_none_ends_with_2(capsys, repository, flag):
    with pytest.raises(SystemExit) as caught:
        main(["check", str(repository), *flag])

    assert caught.value.code == EXIT_USAGE
    assert "invalid positive" in capsys.readouterr().err


def test_one_model_can_be_checked_alone(capsys, repository):
    status = main(["check", str(repository), "--model", "encoder/3", "--device", "cpu", "--json"])

    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert told.pop("seconds") > 0
    assert told == {
        "model": "encoder",
        "version": 3,
        "ok": True,
        "operations": ["encode"],
        "reason": None,
    }


class TestSealing:
    SEAL = ("seal", "good", "--device", "cpu", "--models")

    @pytest.fixture
    def edited(self, repository):
        """The manifest of a good model, edited by hand."""
        path = repository / "good" / "1" / "model.json"
        path.write_text(path.read_text().replace('"description": ""', '"description": "Good."'))
        return path

    def test_an_edited_manifest_is_refused_until_it_is_sealed_anew(
        self, capsys, repository, edited
    ):
        check = ["check", str(repository), "--model", "good", "--device", "cpu"]
        before = main(check), capsys.readouterr().out
        status = main([*self.SEAL, str(repository)])
        said = capsys.readouterr().out
        after = main(check)

        assert before[0] == EXIT_FAULT
        assert "changed after it was sealed; if you meant to: hourglass seal good/1" in before[1]
        assert (status, said) == (0, "good/1  sealed\n")
        assert after == 0
        assert json.loads(edited.read_text())["description"] == "Good."

    def test_a_package_that_is_bad_otherwise_is_not_sealed(self, capsys, repository, edited):
        before = edited.read_text()
        (edited.parent / "encoder.onnx").write_bytes(b"damaged")

        status = main([*self.SEAL, str(repository)])

        assert status == EXIT_FAULT
        assert capsys.readouterr().out.startswith("good/1  BAD  encoder.onnx has 7 bytes")
        assert edited.read_text() == before


@pytest.mark.parametrize("command", ["models", "check"])
def test_a_folder_that_is_none_ends_with_2(capsys, tmp_path, command):
    status = main([command, "--models", str(tmp_path / "nothing")])

    assert status == EXIT_USAGE
    assert "is not a folder" in capsys.readouterr().err


def test_check_loads_every_package_and_names_the_bad_ones(capsys, repository):
    status = main(["check", "--models", str(repository), "--device", "cpu"])

    assert status == EXIT_FAULT
    bad, encoder, good = capsys.readouterr().out.splitlines()
    assert bad.startswith("bad/1  BAD  encoder.onnx has ")
    assert encoder == "encoder/3  ok  encode"
    assert good == "good/1  ok  encode, decode, reconstruct, anomaly-score"


def test_check_of_good_packages_ends_with_0(capsys, tmp_path):
    tiny.write_tabular(tmp_path)

    assert main(["check", "--models", str(tmp_path), "--device", "cpu"]) == 0


class TestKeys:
    def test_the_key_alone_is_printed_and_its_line_added(self, capsys, tmp_path):
        file = tmp_path / "keys"

        status = main(["key", "ci", "--scopes", "infer,manage", "--api-keys-file", str(file)])

        out, err = capsys.readouterr()
        (holder,) = [read_keys(file)[digest_of(out.strip().encode())]]
        assert (status, holder) == (0, Holder("ci", frozenset({"infer", "manage"})))
        assert out.strip() not in file.read_text() + err

    def test_without_a_file_the_line_is_told(self, capsys):
        assert main(["key", "ci"]) == 0

        out, err = capsys.readouterr()
        assert err.splitlines()[1] == line_of(out.strip(), "ci", "infer")

    def test_the_file_may_be_named_by_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOURGLASS_API_KEYS_FILE", str(tmp_path / "keys"))

        assert [main(["key", name]) for name in ("a", "b")] == [0, 0]
        assert [holder.name for holder in read_keys(tmp_path / "keys").values()] == ["a", "b"]

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["a b"], "a name is up to 64"),
            (["a", "--scopes", "all"], "scopes are infer, manage, metrics"),
            (["taken"], "line 2: this name stands further up already"),
        ],
        ids=["name", "scope", "taken"],
    )
    def test_no_key_is_shown_that_no_server_would_know(self, capsys, tmp_path, arguments, told):
        file = tmp_path / "keys"
        main(["key", "taken", "--api-keys-file", str(file)])
        capsys.readouterr()

        assert main(["key", *arguments, "--api-keys-file", str(file)]) == EXIT_USAGE
        out, err = capsys.readouterr()
        assert out == ""
        assert told in err

    @pytest.mark.parametrize("text", ["nonsense", ""], ids=["wrong", "empty"])
    def test_a_server_does_not_start_with_a_wrong_file(self, capsys, tmp_path, text):
        (tmp_path / "keys").write_text(text)

        assert main(["serve", "--api-keys-file", str(tmp_path / "keys")]) == EXIT_USAGE
        assert str(tmp_path / "keys") in capsys.readouterr().err

    def test_an_empty_variable_does_not_open_the_server(self, capsys, monkeypatch):
        monkeypatch.setenv("HOURGLASS_API_KEYS_FILE", "")

        assert main(["serve"]) == EXIT_USAGE
        assert "the file of API keys" in capsys.readouterr().err
