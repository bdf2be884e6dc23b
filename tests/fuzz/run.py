"""Sends bodies of one kind, checks each reply, and keeps the smallest body that did harm."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import orjson
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from serve_app.http.requests import format_level
from tests.fuzz.senders import Send
from tests.fuzz.shots import MARKER, NoReplyError, Reply, Shot
from tests.support.openapi import complaints, operation, response_schema

SHOWN_BYTES = 400
T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """How the bodies of one kind fared; ``failure`` is None while none did harm."""

    kind: str
    bodies: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    slowest_s: float = 0.0
    failure: str | None = None


def run(
    tally: Tally,
    values: st.SearchStrategy[T],
    fire: Callable[[T], object],
    bodies: int,
    seed_of_run: int,
) -> Tally:
    """Fires as many as asked for, and more to make a harmful one smaller."""

    @seed(seed_of_run)
    @settings(
        max_examples=bodies,
        database=None,
        deadline=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(values)
    def every_one(value: T) -> None:
        fire(value)

    try:
        every_one()
    except Exception as exc:  # noqa: BLE001 - any error of a run is a finding, also one of its own
        tally.failure = tally.failure or f"{type(exc).__name__}: {exc}"
    return tally


def run_kind(
    kind: str, shots: st.SearchStrategy[Shot], send: Send, bodies: int, seed_of_run: int
) -> Tally:
    """Fires bodies of one kind."""
    tally = Tally(kind)
    return run(tally, shots, lambda shot: check(shot, send, tally), bodies, seed_of_run)


def check(shot: Shot, send: Send, tally: Tally) -> Reply:
    """Fires one body.

    Raises:
        AssertionError: it did harm; the tally says which, and keeps the latest.
    """
    tally.bodies += 1
    try:
        reply = send(shot)
        found = faults(shot, reply)
    except NoReplyError as exc:
        tally.failure = f"{exc}\n    {shown(shot)}"
        raise
    tally.statuses[reply.status] += 1
    tally.slowest_s = max(tally.slowest_s, reply.elapsed_s)
    if found:
        tally.failure = f"{'; '.join(found)[:SHOWN_BYTES]}\n    {shown(shot)}"
        raise AssertionError(tally.failure)
    return reply


def shown(shot: Shot) -> str:
    """Enough of a shot to fire it again by hand."""
    body = shot.body
    more = f"... ({len(body)} bytes)" if len(body) > SHOWN_BYTES else ""
    return f"{shot.method} {shot.path} {dict(shot.headers)} {body[:SHOWN_BYTES]!r}{more}"


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
    errors = [error for value in values for error in _errors_in(value)]
    if shot.is_bad and status == 200 and not errors:
        yield "took what is no request for one"
    if shot.is_sound and (status != 200 or errors):
        yield f"refused a sound request with {status}: {errors[:1]}"


def _values(reply: Reply) -> list[Any]:
    if reply.media_type == "application/x-ndjson":
        return [orjson.loads(line) for line in reply.body.splitlines()]
    if reply.media_type == "text/plain":  # Prometheus's; the document must speak of it all the same
        return [reply.body.decode()]
    return [orjson.loads(reply.body)]


def _items_in(value: Any) -> list[Any]:
    """An answer, and the results of a batch; nothing of an answer in plain text."""
    return [] if isinstance(value, str) else [value, *value.get("results", ())]


def _errors_in(value: Any) -> list[Any]:
    return [item["error"] for item in _items_in(value) if "error" in item]


def _answers_in(value: Any) -> list[Any]:
    inner = [item.get("ok", item) for item in _items_in(value)]
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
