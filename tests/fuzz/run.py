"""Fires bodies of a kind, one after the other, and keeps the smallest that did harm."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.senders import Send
from tests.fuzz.shots import NoReplyError, Reply, Shot
from tests.fuzz.verdict import faults

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
