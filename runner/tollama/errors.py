"""The ``ModelError`` for each answer of tollama that is not 200.

No text of the runtime is copied into an error, because its texts repeat the input.

    400        refused: the request or one series in it      403, 401   key or licence
    404        no such model (or no such path)               413        too large
    429        rate limited, with Retry-After                503        failed, or its own breaker
    others     failed
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from runner.errors import (
    ModelError,
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTooLargeError,
    RuntimeUnauthorizedError,
)

CIRCUIT_WAIT_S = 16.0  # tollama's own breaker stays open for 15 s


def error_for(status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The error for an answer that is not 200, without any text of the runtime."""
    if status == 400:
        return _refusal(_detail(body))
    if status in {401, 403}:
        return RuntimeUnauthorizedError("the runtime wants another key or an accepted licence")
    if status == 404:
        return ModelNotInstalledError(_not_found(_detail(body)))
    if status == 413:
        return RuntimeTooLargeError("the request is over the runtime's limit")
    if status == 429:
        return RuntimeOverloadedError("the runtime limits the rate", _retry_after_s(headers))
    if status == 503 and _is_circuit_open(_detail(body)):
        wait_s = max(CIRCUIT_WAIT_S, _retry_after_s(headers) or 0.0)
        return RuntimeCircuitOpenError("the runtime's own breaker is open", wait_s)
    return RuntimeFailedError(_unexpected(status))


def blamed(body: bytes, count: int) -> frozenset[int] | None:
    """The positions of the series that a 400 to ``count`` series names, or None for none.

    Schema errors carry the path of each fault (``["body", "series", 3, "target", 0]``); one outside
    of ``series`` concerns all, and splitting would not help. Later checks (of a frequency, or by a
    model) name no series.
    """
    paths = _paths(_detail(body))
    if any(len(path) > 1 and path[1] != "series" for path in paths):
        return frozenset(range(count))
    positions = [path[2] for path in paths if len(path) > 2]
    if not positions or not all(type(p) is int and 0 <= p < count for p in positions):
        return None
    return frozenset(positions)


def _refusal(detail: Any) -> ModelError:
    if isinstance(detail, dict) and detail.get("code") == "MODEL_UNSUPPORTED":
        return ModelNotInstalledError("the runtime cannot run this model")
    return RuntimeRejectedError("the runtime refused the request")


def _is_circuit_open(detail: Any) -> bool:
    return isinstance(detail, str) and detail.startswith("circuit breaker is open")


def _detail(body: bytes) -> Any:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer.get("detail") if isinstance(answer, dict) else None


def _paths(detail: Any) -> list[list[Any]]:
    faults = detail if isinstance(detail, list) else []
    paths = (fault.get("loc") for fault in faults if isinstance(fault, dict))
    return [path for path in paths if isinstance(path, list)]


def _not_found(detail: Any) -> str:
    if isinstance(detail, str) and "not installed" in detail:
        return "the runtime does not have this model"
    return "the runtime knows no such model or path; is base_url right?"


def _unexpected(status: int) -> str:
    if 300 <= status < 400:
        return f"the runtime answered {status}; redirects are not followed"
    return f"the runtime answered {status}"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from Retry-After; a date counts from the answer's own Date, not from the local clock.

    Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        until, now = (parsedate_to_datetime(t) for t in (value, headers.get("date", "")))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None
