"""The load curves of a locust run, and its limits with their exit code; without locust itself.

steady   rate ------------------------
step     rate, then half way to peak, then peak, a third of the time each
spike    rate, in the middle tenth peak, then rate again: does it recover?
ramp     from rate to peak in a straight line: where does it bend?

Limits on latency are for single forecasts. A batch has its own: the cycle it must fit into.
"""

from collections.abc import Callable, Mapping
from typing import Any

BATCH = "batch"
INVALID = "invalid body"  # how a failure begins when the status was 200 and the bands were bad
UNSENT = "not sent"  # how it begins when too many requests were under way already


CURVES: dict[str, Callable[[float, float, float], float]] = {  # rate, peak, done: 0 to 1
    "steady": lambda rate, _peak, _done: rate,
    "step": lambda rate, peak, done: (rate, (rate + peak) / 2, peak)[int(done * 3)],
    "spike": lambda rate, peak, done: peak if 0.45 <= done < 0.55 else rate,
    "ramp": lambda rate, peak, done: rate + (peak - rate) * done,
}


def rate_at(name: str, rate: float, peak_rate: float, done: float) -> float | None:
    """Requests per second when a share ``done`` of the run is over; None once all of it is."""
    return CURVES[name](rate, peak_rate, done) if 0 <= done < 1 else None


def add_options(parser: Any) -> None:
    """The limits as options of the ``locust`` command."""
    add = parser.add_argument
    add("--limit-p95-ms", type=float, default=300.0)
    add("--limit-error-share", type=float, default=0.01, help="0 to 1")
    add("--limit-invalid-bodies", type=int, default=0)
    add("--limit-cycle-s", type=float, default=60.0, help="for the slowest batch")


def broken(entries: Mapping[str, Any], invalid_bodies: int, limits: Any) -> list[str]:
    """Every limit that was exceeded; ``entries`` are locust's statistics by kind of traffic."""
    requests = sum(entry.num_requests for entry in entries.values())
    if not requests:
        return ["nothing was measured"]
    found = [text for name, entry in entries.items() for text in _too_slow(name, entry, limits)]
    share = sum(entry.num_failures for entry in entries.values()) / requests
    if share > limits.limit_error_share:
        found.append(f"error share {share:.2%} is over {limits.limit_error_share:.2%}")
    if invalid_bodies > limits.limit_invalid_bodies:
        found.append(f"{invalid_bodies} invalid bodies, {limits.limit_invalid_bodies} allowed")
    return found


def _too_slow(name: str, entry: Any, limits: Any) -> list[str]:
    if name == BATCH:
        longest_s = entry.max_response_time / 1000
        slow = longest_s > limits.limit_cycle_s
        return [f"a batch took {longest_s:.1f} s of {limits.limit_cycle_s:g} s"] if slow else []
    p95_ms = entry.get_response_time_percentile(0.95) or 0.0
    slow = p95_ms > limits.limit_p95_ms
    return [f"{name}: p95 {p95_ms:.0f} ms is over {limits.limit_p95_ms:g} ms"] if slow else []


def set_exit_code(environment: Any, **_: Any) -> None:
    """Locust's ``quitting`` handler: prints broken limits and sets the exit code."""
    entries = {name: entry for (name, _method), entry in environment.stats.entries.items()}
    errors = environment.stats.errors.values()
    invalid = sum(error.occurrences for error in errors if INVALID in str(error.error))
    found = broken(entries, invalid, environment.parsed_options)
    print("LIMITS_FAIL: " + "; ".join(found) if found else "LIMITS_PASS", flush=True)
    environment.process_exit_code = 1 if found else 0
