"""Log lines: one JSON object each, or text for people."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

# attributes that every record has; what is left was given as ``extra``
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and every field given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()


class TextFormatter(logging.Formatter):
    """The same for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-8s %(name)s  %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        text, *trace = super().format(record).split("\n", 1)
        return "\n".join([f"{text}  {fields}".rstrip(), *trace])


def configure_logging(log_format: Literal["json", "text"], level: str) -> None:
    """Send every log line of this process to standard error, in one format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.captureWarnings(capture=True)
    # one line for every broken form or picture would let a client flood the log
    for name in ("python_multipart", "PIL", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # "Started server process" and the like say less than our own lines
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.root.level))


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
