"""One request to fire and what came back, whichever way it went."""

import json
from dataclasses import dataclass
from typing import Any

FORECAST_PATH, BATCH_PATH = "/tsfm/forecast", "/tsfm/forecast/batch"
# Planted in values. No name may hold a "~" and stay whole in an error, so a hit is always an echo.
MARKER = "zq7~marker~5x"

Headers = tuple[tuple[bytes, bytes], ...]
JSON: Headers = ((b"Content-Type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class Shot:
    """A request, in the pieces it is sent in.

    Attributes:
        ends: whether the body comes to an end; else the sender falls silent.
        is_bad: a forecast in answer to this would be a mistake.
        is_sound: anything else than a forecast would be.
    """

    path: str
    chunks: tuple[bytes, ...]
    headers: Headers = ()
    method: str = "POST"
    ends: bool = True
    is_bad: bool = False
    is_sound: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


def dumps(value: Any) -> bytes:
    """As text that may hold NaN, and halves of surrogates as escapes."""
    return json.dumps(value, separators=(",", ":")).encode()


def whole(target: tuple[str, bytes]) -> Shot:
    """A path and a body, sent in one piece."""
    return Shot(target[0], (target[1],), JSON)


def bad(target: tuple[str, bytes]) -> Shot:
    """The same, where a forecast would be a mistake."""
    return Shot(target[0], (target[1],), JSON, is_bad=True)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Headers
    body: bytes
    elapsed_s: float

    @property
    def media_type(self) -> str:
        found = [value for name, value in self.headers if name.lower() == b"content-type"]
        return found[0].decode("latin-1").partition(";")[0] if found else ""


class NoReplyError(AssertionError):
    """The service closed the connection, or nothing came within the limit."""
