"""Pass or fail for a locust run: the limits, and the exit code they set; without locust itself.

Limits on latency are for single forecasts. A batch has its own: the cycle it must fit into.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BATCH = "batch"
INVALID = "invalid body"  # how a failure begins when the status was 200 and the bands were bad
UNSENT = "not sent"  # how it begins when too many requests were under way already


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may cost."""

    p95_ms: float
    error_share: float
    invalid_bodies: int
    cycle_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What was measured for one kind of traffic."""

    requests: int
    failures: int
    p95_ms: float
    max_ms: float


def broken(entries: Mapping[str, Entry], invalid_bodies: int, limits: Limits) -> list[str]:
    """Every limit that was passed, in words; a run without a request passed none of its tests."""
    requests = sum(entry.requests for entry in entries.values())
    if not requests:
        return ["nothing was measured"]
    found = [_latency(name, entry, limits) for name, entry in entries.items()]
    share = sum(entry.failures for entry in entries.values()) / requests
    if share > limits.error_share:
        found.append(f"error share {share:.2%} is over {limits.error_share:.2%}")
    if invalid_bodies > limits.invalid_bodies:
        found.append(f"{invalid_bodies} invalid bodies, {limits.invalid_bodies} allowed")
    return [text for text in found if text]


def _latency(name: str, entry: Entry, limits: Limits) -> str | None:
    if name == BATCH:
        slow = entry.max_ms > limits.cycle_s * 1000
        return f"a batch took {entry.max_ms / 1000:.1f} s of {limits.cycle_s:g} s" if slow else None
    if entry.p95_ms > limits.p95_ms:
        return f"{name}: p95 {entry.p95_ms:.0f} ms is over {limits.p95_ms:g} ms"
    return None


def add_options(parser: Any) -> None:
    """The limits as options of the ``locust`` command."""
    add = parser.add_argument
    add("--limit-p95-ms", type=float, default=300.0)
    add("--limit-error-share", type=float, default=0.01, help="0 to 1")
    add("--limit-invalid-bodies", type=int, default=0)
    add("--limit-cycle-s", type=float, default=60.0, help="for the slowest batch")


def set_exit_code(environment: Any, **_: Any) -> None:
    """Locust's ``quitting`` handler: says what was broken and lets the shell know."""
    options = environment.parsed_options
    limits = Limits(
        options.limit_p95_ms,
        options.limit_error_share,
        options.limit_invalid_bodies,
        options.limit_cycle_s,
    )
    found = broken(entries_of(environment.stats), invalid_bodies(environment.stats), limits)
    print("LIMITS_FAIL: " + "; ".join(found) if found else "LIMITS_PASS", flush=True)
    environment.process_exit_code = 1 if found else 0


def entries_of(stats: Any) -> dict[str, Entry]:
    return {
        name: Entry(
            entry.num_requests,
            entry.num_failures,
            entry.get_response_time_percentile(0.95) or 0.0,
            entry.max_response_time,
        )
        for (name, _method), entry in stats.entries.items()
    }


def invalid_bodies(stats: Any) -> int:
    errors: Sequence[Any] = list(stats.errors.values())
    return sum(error.occurrences for error in errors if INVALID in str(error.error))
