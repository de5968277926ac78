"""The file of API keys: what its lines mean, what is refused, and that it never holds a key."""

from hashlib import sha256

import pytest

from service.errors import ConfigurationError
from service.keys import SCOPES, Holder, add_line, digest_of, line_of, make_key, read_keys

HEX = sha256(b"a key").hexdigest()
OTHER = sha256(b"another key").hexdigest()
SECRET = "hg_what-somebody-put-there-by-mistake"  # noqa: S105 - what no message may repeat


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys"


def test_a_line_says_who_has_a_key_and_what_it_is_for(file):
    file.write_text(f"a infer {HEX}\nb.c_d-9 manage,metrics {OTHER}\n")

    assert read_keys(file) == {
        digest_of(b"a key"): Holder("a", frozenset({"infer"})),
        digest_of(b"another key"): Holder("b.c_d-9", frozenset({"manage", "metrics"})),
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"a infer {HEX}", id="no last end of line"),
        pytest.param(f"\n \n# a note\n\ta\tinfer   {HEX}  \n\n", id="blanks"),
        pytest.param(f"a infer {HEX} # until May\n", id="a note behind it"),
        pytest.param(f"#a infer {OTHER}\r\na infer {HEX}\r\n", id="ends of lines of Windows"),
        pytest.param(f"a infer,infer {HEX.upper()}\n", id="capitals, and a scope twice"),
    ],
)
def test_what_a_file_may_look_like(file, text):
    file.write_text(text)

    assert read_keys(file) == {digest_of(b"a key"): Holder("a", frozenset({"infer"}))}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("a", "a line is NAME SCOPES SHA256", id="a word"),
        pytest.param(f"a {HEX}", "a line is NAME SCOPES SHA256", id="no scopes"),
        pytest.param(f"a infer, manage {HEX}", "a line is NAME SCOPES SHA256", id="spaces"),
        pytest.param(f"a infer {HEX} more", "a line is NAME SCOPES SHA256", id="a word too many"),
        pytest.param(f"a infer {SECRET}", "not a SHA-256", id="the key itself"),
        pytest.param(f"a infer {HEX[:-1]}", "not a SHA-256", id="a digit missing"),
        pytest.param(f"a infer {HEX}0", "not a SHA-256", id="a digit too many"),
        pytest.param(f"a infer {'g' * 64}", "not a SHA-256", id="not hexadecimal"),
        pytest.param(f"a infer {'٣' * 64}", "not a SHA-256", id="digits of others"),
        pytest.param(f"a infer {sha256().hexdigest()}", "an empty key", id="of an empty key"),
        pytest.param(f"a {SECRET} {HEX}", "scopes are infer, manage, metrics", id="scope"),
        pytest.param(f"a Infer {HEX}", "scopes are infer, manage, metrics", id="capital"),
        pytest.param(f"a infer,,manage {HEX}", "scopes are infer, manage, metrics", id="commas"),
        pytest.param(f"a , {HEX}", "scopes are infer, manage, metrics", id="no scope"),
        pytest.param(f"{SECRET}! infer {HEX}", "a name is up to 64", id="name"),
        pytest.param(f"{'a' * 65} infer {HEX}", "a name is up to 64", id="long name"),
        pytest.param(f"ä infer {HEX}", "a name is up to 64", id="letter of others"),
        pytest.param(f"first infer {HEX}", "this name stands further up", id="name twice"),
        pytest.param(f"a infer {OTHER.upper()}", "this key stands further up", id="key twice"),
    ],
)
def test_a_line_that_is_none_is_told_by_its_number_and_never_repeated(file, line, told):
    file.write_text(f"# keys\nfirst manage {OTHER}\n\n{line}\nlast infer nonsense\n")

    with pytest.raises(ConfigurationError, match=told) as caught:
        read_keys(file)

    assert f"{file}, line 4: " in str(caught.value)
    assert SECRET not in str(caught.value)
    assert HEX not in str(caught.value)


def test_lines_are_counted_as_editors_do(file):
    file.write_text("# a form feed:\f, a separator:\u2028 and\x1d\nnonsense\n", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="line 2:"):
        read_keys(file)


@pytest.mark.parametrize("text", ["", "\n", "# none yet\n"])
def test_a_file_without_keys_is_refused(file, text):
    file.write_text(text)

    with pytest.raises(ConfigurationError, match="holds none"):
        read_keys(file)


def test_a_file_that_is_no_text_is_refused(file):
    file.write_bytes(b"\xff\xfe" + f"a infer {HEX}\n".encode("utf-16-le"))

    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        read_keys(file)


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError, match="cannot be read: "):
        read_keys(tmp_path / name)


def test_keys_are_long_random_and_fit_into_a_header():
    keys = {make_key() for _ in range(100)}

    assert len(keys) == 100
    assert {len(key) for key in keys} == {3 + 43}  # 32 bytes in base64
    assert all(key.startswith("hg_") and key.isascii() and key.isprintable() for key in keys)


def test_the_line_of_a_key_is_read_as_it_was_meant_and_holds_no_key(file):
    key = make_key()
    line = line_of(key, "ci", "manage,infer")

    add_line(file, line)

    assert key not in file.read_text()
    assert read_keys(file) == {
        digest_of(key.encode()): Holder("ci", frozenset({"infer", "manage"}))
    }


@pytest.mark.parametrize(
    ("name", "scopes"), [("a b", "infer"), ("a#", "infer"), ("", "infer"), ("a", "all"), ("a", "")]
)
def test_a_line_that_could_not_be_read_is_not_written(name, scopes):
    with pytest.raises(ConfigurationError):
        line_of("a key", name, scopes)


@pytest.mark.parametrize("text", [f"a infer {HEX}", f"a infer {HEX}\n", f"a infer {HEX}\n# end"])
def test_a_line_is_added_behind_all_others(file, text):
    file.write_text(text)

    add_line(file, f"b infer {OTHER}")

    assert file.read_text() == text.removesuffix("\n") + f"\nb infer {OTHER}\n"
    assert [holder.name for holder in read_keys(file).values()] == ["a", "b"]


@pytest.mark.parametrize("text", [f"b infer {HEX}\n", "nonsense\n"], ids=["name", "line"])
def test_a_file_in_which_a_line_would_be_wrong_stays_as_it_is(file, text):
    file.write_text(text)

    with pytest.raises(ConfigurationError):
        add_line(file, f"b infer {OTHER}")

    assert file.read_text() == text


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be written: "):
        add_line(tmp_path / "nothing" / "keys", f"a infer {HEX}")


def test_the_scopes_are_those_of_the_contract():
    assert SCOPES == ("infer", "manage", "metrics")
