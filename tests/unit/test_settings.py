"""Settings: defaults, the environment, and what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import ENVIRONMENT_PREFIX, Settings

DEFAULTS = {
    "host": "127.0.0.1",
    "port": 8000,
    "models": Path("models"),
    "required_models": (),
    "device": "auto",
    "queue_delay_ms": 0,
    "access_log": False,
    "log_format": "json",
    "api_keys_file": None,
}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(ENVIRONMENT_PREFIX + name.upper(), raising=False)


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items(), ids=DEFAULTS)
def test_the_defaults_of_the_contract(name, value):
    assert getattr(Settings(), name) == value


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_description_and_a_default(name):
    field = Settings.model_fields[name]

    assert field.description
    assert not field.is_required()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "9000", 9000),
        ("HOST", "0.0.0.0", "0.0.0.0"),  # noqa: S104 - read, not bound
        ("MODELS", "/srv/models", Path("/srv/models")),
        ("REQUIRED_MODELS", "a,b/2", ("a", "b/2")),
        ("REQUIRED_MODELS", " a , ,b ", ("a", "b")),
        ("REQUIRED_MODELS", "", ()),
        ("ACCESS_LOG", "true", True),
        ("INTRA_OP_THREADS", "auto", "auto"),
        ("INTRA_OP_THREADS", "4", 4),
        ("CUDA_MEMORY_LIMIT_MIB", "2048", 2048),
        ("CUDA_ARENA_EXTEND", "next_power_of_two", "next_power_of_two"),
        ("CUDA_CONV_SEARCH", "exhaustive", "exhaustive"),
        ("CUDA_TF32", "true", True),
        ("CUDA_PREFER_NHWC", "1", True),
        ("QUEUE_DELAY_MS", "1.5", 1.5),
        ("HEADER_TIMEOUT_MS", "2500", 2500),
        ("MAX_CONNECTIONS", "auto", "auto"),
        ("MAX_CONNECTIONS", "100", 100),
        ("LOG_FORMAT", "text", "text"),
        ("API_KEYS_FILE", "/etc/keys", Path("/etc/keys")),
    ],
)
def test_a_setting_is_read_from_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(ENVIRONMENT_PREFIX + name, text)

    assert getattr(Settings(), name.lower()) == value


def test_an_argument_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("HOURGLASS_PORT", "9000")

    assert Settings(port=7000).port == 7000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", -1),
        ("port", 65536),
        ("port", "tcp://10.0.0.1:80"),
        ("device", "tpu"),
        ("device_id", -1),
        ("intra_op_threads", 0),
        ("intra_op_threads", "all"),
        ("cuda_memory_limit_mib", -1),
        ("cuda_arena_extend", "kSameAsRequested"),
        ("cuda_conv_search", "HEURISTIC"),
        ("cuda_tf32", "perhaps"),
        ("max_batch_rows", 0),
        ("max_queue_rows", 0),
        ("max_request_rows", 0),
        ("queue_delay_ms", -1),
        ("queue_delay_ms", float("nan")),
        ("queue_delay_ms", float("inf")),
        ("request_timeout_ms", 0),
        ("request_timeout_ms", float("inf")),
        ("header_timeout_ms", 0),
        ("header_timeout_ms", 3_600_001),
        ("send_timeout_ms", -1),
        ("send_timeout_ms", float("inf")),
        ("max_connections", 0),
        ("max_connections", "many"),
        ("max_body_bytes", 0),
        ("max_json_bytes", 0),
        ("max_picture_pixels", 0),
        ("drain_delay_ms", -1),
        ("drain_timeout_ms", -1),
        ("access_log", "perhaps"),
        ("log_format", "xml"),
        ("log_level", "loud"),
        ("no_such_setting", 1),
    ],
)
def test_an_impossible_value_is_refused(name, value):
    with pytest.raises(ValidationError):
        Settings(**{name: value})


def test_a_request_that_could_never_be_queued_is_refused():
    with pytest.raises(ValidationError, match="could never run"):
        Settings(max_request_rows=10, max_queue_rows=9)


def test_a_request_may_fill_the_queue():
    assert Settings(max_request_rows=9, max_queue_rows=9).max_queue_rows == 9


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        setattr(Settings(), "port", 1)  # noqa: B010 - mypy knows that it cannot be set


def test_milliseconds_are_handed_on_as_seconds():
    settings = Settings(request_timeout_ms=1500, queue_delay_ms=2)

    assert (settings.request_timeout_s, settings.queue_delay_s) == (1.5, 0.002)
