"""Log lines as JSON on stderr: one object a line, for a log collector."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

OURS = ("runner", "serve_app")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; the fields of ``extra`` are at the top level."""

    def __init__(self, context: Mapping[str, str]) -> None:
        super().__init__()
        self._context = dict(context)

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._context,
            **{k: v for k, v in vars(record).items() if k not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def own_stderr() -> TextIO:
    """Stderr of the process itself.

    In a replica Serve 2.60 replaces ``sys.stderr`` by an object that writes to Serve's own log at
    INFO, where our configuration of Serve (WARNING) drops the lines.
    """
    assert sys.__stderr__ is not None
    return sys.__stderr__


def set_up_logging(level: str, context: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Makes our own loggers write JSON lines from ``level`` on; other loggers stay unchanged.

    ``context`` is added to every line, for example the replica's name.
    """
    handler = logging.StreamHandler(stream or own_stderr())
    handler.setFormatter(JsonFormatter(context))
    for name in OURS:
        ours = logging.getLogger(name)
        ours.handlers = [handler]
        ours.propagate = False
        ours.setLevel(level)
