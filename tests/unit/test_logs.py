"""Log lines as JSON and as text."""

import json
import logging
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from service.logs import JsonFormatter, TextFormatter, configure_logging


def record(message="it happened", *args, exc_info=None, **extra):
    made = logging.LogRecord("a.b", logging.WARNING, __file__, 1, message, args, exc_info)
    vars(made).update(extra)
    return made


def failed():
    try:
        int("the reason")
    except ValueError:
        return sys.exc_info()


@pytest.fixture
def untouched_logging():
    """Gives the root logger back as it was."""
    names = ("", "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, each.level, each.handlers[:], each.propagate) for each in loggers]
    yield
    for each, level, handlers, propagate in before:
        each.setLevel(level)
        each.handlers[:] = handlers
        each.propagate = propagate


def test_a_json_line_has_time_level_logger_and_message():
    line = json.loads(JsonFormatter().format(record("%d rows", 3)))

    assert line.keys() == {"time", "level", "logger", "message"}
    assert (line["level"], line["logger"], line["message"]) == ("warning", "a.b", "3 rows")


def test_the_time_of_a_json_line_is_utc_to_the_millisecond():
    made = record(created=0.0625)

    line = json.loads(JsonFormatter().format(made))

    assert datetime.fromisoformat(line["time"]) == datetime(1970, 1, 1, 0, 0, 0, 62_000, UTC)


def test_a_json_line_has_every_extra_field():
    line = json.loads(JsonFormatter().format(record(rows=3, model="m", seconds=0.5)))

    assert (line["rows"], line["model"], line["seconds"]) == (3, "m", 0.5)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.float32(0.1), 0.1),
        (np.array([1, 2]), [1, 2]),
        (ValueError("x"), "x"),
        (None, None),
        ({"a": (1, 2)}, {"a": [1, 2]}),
    ],
    ids=["float", "array", "exception", "nothing", "nest"],
)
def test_a_field_of_any_type_is_shown(value, shown):
    assert json.loads(JsonFormatter().format(record(field=value)))["field"] == shown


def test_a_json_line_is_one_line_whatever_is_in_it():
    text = JsonFormatter().format(record("two\nlines", exc_info=failed(), field="a\nb"))

    assert "\n" not in text
    assert "ValueError: invalid literal" in json.loads(text)["exception"]


def test_a_text_line_has_its_fields_at_the_end():
    text = TextFormatter().format(record(rows=3, model="m"))

    assert text.endswith("WARNING  a.b  it happened  rows=3 model=m")


def test_a_text_line_without_fields_ends_with_its_message():
    assert TextFormatter().format(record()).endswith("a.b  it happened")


def test_a_text_line_has_its_fields_before_the_trace():
    first, *trace = TextFormatter().format(record(exc_info=failed(), rows=3)).split("\n")

    assert first.endswith("it happened  rows=3")
    assert trace[-1].startswith("ValueError: invalid literal")


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.usefixtures("untouched_logging")
def test_lines_go_to_standard_error(capsys, log_format):
    configure_logging(log_format, "info")

    logging.getLogger("x").info("seen")

    captured = capsys.readouterr()
    assert "seen" in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("untouched_logging")
def test_lines_below_the_level_are_left_out(capsys):
    configure_logging("text", "error")

    logging.getLogger("x").warning("unseen")

    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("untouched_logging")
def test_the_servers_own_lines_have_the_same_format_and_only_warnings(capsys):
    configure_logging("json", "debug")

    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("a warning")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["a warning"]


@pytest.mark.usefixtures("untouched_logging")
def test_logging_can_be_configured_again(capsys):
    configure_logging("json", "info")
    configure_logging("text", "info")

    logging.getLogger("x").info("once")

    assert capsys.readouterr().err.count("once") == 1
