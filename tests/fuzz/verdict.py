"""What is wrong with a reply: faults, echoes, and answers that are not valid."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from serve_app.http.requests import format_level
from tests.fuzz.shots import MARKER, Reply, Shot
from tests.support.openapi import complaints, operation, response_schema

SLOW_S = 5.0


def faults(shot: Shot, reply: Reply) -> list[str]:
    """Everything that must not be, in words; empty when all is well."""
    return list(_faults(shot, reply))


def _faults(shot: Shot, reply: Reply) -> Iterator[str]:
    if reply.status >= 500:
        yield f"status {reply.status}"
    if reply.elapsed_s > SLOW_S:
        yield f"took {reply.elapsed_s:.1f} s"
    if str(reply.status) not in operation(shot.path)["responses"]:
        yield f"status {reply.status} is not in the document"
        return
    if any(MARKER.encode() in part for pair in reply.headers for part in pair):
        yield "input echoed in a header"
    try:
        values = _values(reply)
        schema = response_schema(shot.path, reply.status, reply.media_type)
    except (ValueError, KeyError) as exc:
        yield f"an answer of {reply.media_type!r} that cannot be read: {exc!r}"
        return
    for value in values:
        yield from complaints(schema, value)
        yield from _wrong_parts(value)
    yield from _not_expected(shot, reply.status, values)


def _wrong_parts(value: Any) -> Iterator[str]:
    for error in _errors_in(value):
        if MARKER in orjson.dumps(error).decode():
            yield "input echoed in an error"
    for answer in _answers_in(value):
        yield from broken_bands(answer)


def _not_expected(shot: Shot, status: int, values: list[Any]) -> Iterator[str]:
    if shot.is_bad and status == 200:
        yield "took what is no request for one"
    errors = [error for value in values for error in _errors_in(value)]
    if shot.is_sound and (status != 200 or errors):
        yield f"refused a sound request with {status}: {errors[:1]}"


def _values(reply: Reply) -> list[Any]:
    if reply.media_type == "application/x-ndjson":
        return [orjson.loads(line) for line in reply.body.splitlines()]
    if reply.media_type == "text/plain":  # Prometheus's; the document must speak of it all the same
        return [reply.body.decode()]
    return [orjson.loads(reply.body)]


def _errors_in(value: Any) -> list[Any]:
    if isinstance(value, str):
        return []
    items = [value, *value.get("results", ())]
    return [item["error"] for item in items if "error" in item]


def _answers_in(value: Any) -> list[Any]:
    if isinstance(value, str):
        return []
    items = [value, *value.get("results", ())]
    inner = [item.get("ok", item) for item in items]
    return [answer for answer in inner if "yhat_q" in answer]


def broken_bands(answer: dict[str, Any]) -> Iterator[str]:
    """Promises that a forecast breaks: every level, every step, finite, in [0, 1], in order."""
    named = {format_level(level) for level in answer["quantiles"]}
    if set(answer["yhat_q"]) != named or len(named) != len(answer["quantiles"]):
        yield "levels are missing or too many"
        return
    rows = [answer["yhat_q"][format_level(level)] for level in answer["quantiles"]]
    if {len(row) for row in rows} != {answer["horizon_steps"]}:
        yield "steps are missing or too many"
        return
    paths = np.array(rows, dtype=np.float64)  # (Q, H); null becomes NaN
    if not np.isfinite(paths).all() or paths.min() < 0 or paths.max() > 1:
        yield "values are not finite or not in [0, 1]"
    if (np.diff(paths, axis=0) < 0).any():
        yield "quantiles are crossed"
