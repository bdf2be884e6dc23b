"""Each event in each state, and what a series of events leads to."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from runner.breaker.state_machine import (
    Breaker,
    CallResult,
    CallWindow,
    Permit,
    Refusal,
    Verdict,
    call_result,
)
from runner.errors import BadOutputError, RuntimeCircuitOpenError, RuntimeRejectedError
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    NO_INFORMATION,
    NOW,
    SLOW_S,
    SUCCESS,
    call,
    make_breaker,
    permit_of,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN
FORCED_OPEN = BreakerState.FORCED_OPEN
FORCED_CLOSED = BreakerState.FORCED_CLOSED


Moment = tuple[float, str]  # the time, and letters of events
COMMANDS = {
    "X": BreakerCommand.FORCE_OPEN,
    "O": BreakerCommand.FORCE_CLOSED,
    "R": BreakerCommand.RESET,
}
CALLS = {
    "F": (FAILURE, FAST_S),
    "S": (SUCCESS, 0.99),  # just not slow
    "L": (SUCCESS, 1.0),  # slow
    "I": (IGNORED, SLOW_S),
    "N": (NO_INFORMATION, FAST_S),
}


def play(breaker: Breaker, moments: Sequence[Moment]) -> list[BreakerState]:
    """Makes whole calls and commands; returns the state after each of them."""
    states = []
    for now, letters in moments:
        for letter in letters:
            if letter in COMMANDS:
                breaker.obey(COMMANDS[letter], now)
            else:
                call(breaker, CALLS[letter][0], now, CALLS[letter][1])
            states.append(breaker.state(now))
    return states


COOLDOWN_S = 100.0
REACHED: dict[BreakerState, list[Moment]] = {  # the state at NOW
    CLOSED: [],
    OPEN: [(NOW, "FFF")],
    HALF_OPEN: [(NOW - COOLDOWN_S, "FFF")],
    FORCED_OPEN: [(NOW, "X")],
    FORCED_CLOSED: [(NOW, "O")],
}


class Subject:
    """A breaker in a known state at ``NOW``, with a permit of that state where there can be one."""

    def __init__(self, state: BreakerState) -> None:
        self.breaker = make_breaker(slow_call_rate=0.9)
        self.permit = Permit(generation=-1)
        play(self.breaker, REACHED[state])
        if state not in (OPEN, FORCED_OPEN):
            self.permit = permit_of(self.breaker.acquire(NOW))

    def ends(self, outcome: CallResult, duration_s: float = FAST_S) -> None:
        self.breaker.record(self.permit, outcome, duration_s, NOW)


EVENTS: dict[str, Callable[[Subject], object]] = {
    "acquire": lambda s: s.breaker.acquire(NOW),
    "time passes": lambda s: s.breaker.state(NOW + COOLDOWN_S),
    "success": lambda s: s.ends(SUCCESS),
    "slow success": lambda s: s.ends(SUCCESS, SLOW_S),
    "failure": lambda s: s.ends(FAILURE),
    "ignored": lambda s: s.ends(IGNORED),
    "no information": lambda s: s.ends(NO_INFORMATION),
    "force_open": lambda s: s.breaker.obey(BreakerCommand.FORCE_OPEN, NOW),
    "force_closed": lambda s: s.breaker.obey(BreakerCommand.FORCE_CLOSED, NOW),
    "reset": lambda s: s.breaker.obey(BreakerCommand.RESET, NOW),
}

# The table of the module docstring: what state follows, in the order of EVENTS.
TABLE = {
    CLOSED: [CLOSED, CLOSED, CLOSED, CLOSED, CLOSED, CLOSED, CLOSED],
    OPEN: [OPEN, HALF_OPEN, OPEN, OPEN, OPEN, OPEN, OPEN],
    HALF_OPEN: [HALF_OPEN, HALF_OPEN, CLOSED, OPEN, OPEN, HALF_OPEN, OPEN],
    FORCED_OPEN: [FORCED_OPEN] * 7,
    FORCED_CLOSED: [FORCED_CLOSED] * 7,
}
COMMANDED = [FORCED_OPEN, FORCED_CLOSED, CLOSED]
CELLS = [
    pytest.param(before, event, after, id=f"{before.value}-{event}")
    for before, row in TABLE.items()
    for event, after in zip(EVENTS, row + COMMANDED, strict=True)
]


@pytest.mark.parametrize(("before", "event", "after"), CELLS)
def test_each_event_in_each_state_has_the_state_of_the_table(before, event, after):
    subject = Subject(before)
    generation = subject.breaker.snapshot(NOW)["generation"]

    EVENTS[event](subject)

    later = NOW + COOLDOWN_S if event == "time passes" else NOW
    changed = before is not after or event in ("force_open", "force_closed", "reset")
    assert subject.breaker.state(later) is after
    assert subject.breaker.snapshot(later)["generation"] == generation + changed


RATE = {"consecutive_failures": 99, "failure_rate": 0.5, "min_calls": 4}
SLOW_RATE = {"slow_call_rate": 0.75, "min_calls": 4}
HISTORIES: dict[str, tuple[dict[str, Any], list[Moment], list[BreakerState]]] = {
    "failures in a row": ({}, [(0, "FFF")], [CLOSED, CLOSED, OPEN]),
    "a success ends a row": ({}, [(0, "FFSFF")], [CLOSED] * 5),
    "what is ignored is not in a row": ({}, [(0, "FFIIF")], [CLOSED] * 4 + [OPEN]),
    "no information is not in a row": ({}, [(0, "FFNNF")], [CLOSED] * 4 + [OPEN]),
    "failure rate of enough calls": (RATE, [(0, "FFSS")], [CLOSED] * 3 + [OPEN]),
    "slow-call rate of enough calls": (SLOW_RATE, [(0, "LLSL")], [CLOSED] * 3 + [OPEN]),
    "a lower failure rate": (RATE, [(0, "FSSS")], [CLOSED] * 4),
    "a lower slow-call rate": (SLOW_RATE, [(0, "LSSL")], [CLOSED] * 4),
    "failures are not slow": ({"slow_call_rate": 0.1, "min_calls": 1}, [(0, "F")], [CLOSED]),
    "slow calls are no failures": ({"failure_rate": 0.1, "min_calls": 1}, [(0, "L")], [CLOSED]),
    "calls before an outage do not count after it": (
        {"failure_rate": 0.5, "min_calls": 4},
        [(0, "FFF"), (100, "SF")],
        [CLOSED, CLOSED, OPEN, CLOSED, CLOSED],
    ),
    "a command clears the counts": (
        {},
        [(0, "FFORFF")],
        [CLOSED] * 2 + [FORCED_CLOSED] + [CLOSED] * 3,
    ),
    "enough successful probes": (
        {"successes_to_close": 3},
        [(0, "FFF"), (100, "SSS")],
        [CLOSED, CLOSED, OPEN, HALF_OPEN, HALF_OPEN, CLOSED],
    ),
    "successful probes before another opening do not count": (
        {"successes_to_close": 2},
        [(0, "FFF"), (100, "SF"), (300, "S")],
        [CLOSED, CLOSED, OPEN, HALF_OPEN, OPEN, HALF_OPEN],
    ),
    "a slow probe closes without a slow-call rate": (
        {},
        [(0, "FFF"), (100, "L")],
        [CLOSED, CLOSED, OPEN, CLOSED],
    ),
}


@pytest.mark.parametrize(("changes", "moments", "states"), HISTORIES.values(), ids=HISTORIES)
def test_states_after_a_series_of_calls(changes, moments, states):
    assert play(make_breaker(**changes), moments) == states


COOLDOWNS: dict[str, tuple[list[Moment], float]] = {
    "first": ([(0, "FFF")], 100.0),
    "after a failed probe": ([(0, "FFF"), (100, "F")], 200.0),
    "up to the longest": ([(0, "FFF"), (100, "F"), (300, "F")], 350.0),
    "never over the longest": ([(0, "FFF"), (100, "F"), (300, "F"), (650, "F")], 350.0),
    "no information names its seconds": ([(0, "FFF"), (100, "N")], 16.0),
    "no information adds no growth": ([(0, "FFF"), (100, "N"), (116, "F")], 200.0),
    "recovery under one window": ([(0, "FFF"), (100, "S"), (159.5, "FFF")], 200.0),
    "recovery of a window": ([(0, "FFF"), (100, "S"), (160, "FFF")], 100.0),
    "forced open": ([(0, "X")], 100.0),
    "reset forgets growth": ([(0, "FFF"), (100, "F"), (110, "R"), (111, "FFF")], 100.0),
}


@pytest.mark.parametrize(("moments", "cooldown_s"), COOLDOWNS.values(), ids=COOLDOWNS)
def test_cooldown_grows_with_failed_probes_until_a_lasting_recovery(moments, cooldown_s):
    breaker = make_breaker()

    play(breaker, moments)

    assert breaker.retry_in_s(moments[-1][0]) == pytest.approx(cooldown_s)


@pytest.mark.parametrize(
    ("jitter", "first_s", "second_s"), [(0.0, 80.0, 160.0), (0.5, 100.0, 200.0), (0.75, 110.0, 220)]
)
def test_jitter_changes_each_cooldown_but_not_its_growth(jitter, first_s, second_s):
    breaker = make_breaker(jitter=jitter, cooldown_jitter_fraction=0.2)

    play(breaker, [(0, "FFF")])
    assert breaker.retry_in_s(0.0) == pytest.approx(first_s)
    call(breaker, FAILURE, 111.0)
    assert breaker.retry_in_s(111.0) == pytest.approx(second_s)


def test_probes_are_limited_and_a_lost_one_frees_its_place_when_its_lease_ends():
    breaker = make_breaker(probes=2)
    play(breaker, REACHED[HALF_OPEN])

    answers = [breaker.acquire(NOW + after_s) for after_s in (0.0, 1.0, 2.0, 4.5, 5.0)]

    assert answers == [
        Permit(2, "p1"),
        Permit(2, "p2"),
        Refusal(retry_in_s=3.0),
        Refusal(retry_in_s=0.5),
        Permit(2, "p3"),
    ]


def test_a_result_after_its_lease_has_ended_changes_nothing():
    breaker = make_breaker()
    play(breaker, REACHED[HALF_OPEN])
    probe = permit_of(breaker.acquire(NOW))

    breaker.record(probe, SUCCESS, FAST_S, NOW + 5.0)

    assert breaker.state(NOW + 5.0) is HALF_OPEN


def test_a_result_after_another_probe_failed_is_dropped_but_frees_its_place():
    breaker = make_breaker(probes=2)
    play(breaker, REACHED[HALF_OPEN])
    first, second = permit_of(breaker.acquire(NOW)), permit_of(breaker.acquire(NOW))

    breaker.record(first, FAILURE, FAST_S, NOW)
    running = breaker.snapshot(NOW)["leases"]
    breaker.record(second, SUCCESS, FAST_S, NOW)

    assert (breaker.state(NOW), breaker.retry_in_s(NOW)) == (OPEN, 200.0)
    assert (list(running), breaker.snapshot(NOW)["leases"]) == (["p2"], {})


@pytest.mark.parametrize("wait_s", [1e9, math.inf, math.nan])
def test_no_information_never_waits_longer_than_the_longest_cooldown(wait_s):
    breaker = make_breaker()
    play(breaker, REACHED[HALF_OPEN])

    call(breaker, CallResult(Verdict.NO_INFORMATION, wait_s), NOW)

    assert breaker.retry_in_s(NOW) == 350.0


def test_with_more_leases_than_probes_the_wait_lasts_until_a_probe_is_allowed():
    breaker = make_breaker(probes=2)
    play(breaker, REACHED[HALF_OPEN])
    entry = breaker.snapshot(NOW)
    entry["leases"] = {"a": 4.0, "b": 1.0, "c": 3.0, "d": 2.0}

    breaker.adopt(entry, NOW)

    assert breaker.acquire(NOW) == Refusal(3.0)
    assert breaker.acquire(NOW + 3.0) == Permit(2, "p1")


def test_snapshot_has_the_age_of_the_last_change_and_the_number_of_commands():
    breaker = make_breaker(successes_to_close=2)
    ages = [breaker.snapshot(0.0)["changed_s_ago"]]
    moments: list[Moment] = [(0, "FFF"), (100, "N"), (130, "S"), (131, "S"), (140, "OR")]
    for moment in moments:
        play(breaker, [moment])
        ages.append(breaker.snapshot(moment[0] + 1)["changed_s_ago"])

    assert ages == [math.inf, 1.0, 101.0, 131.0, 1.0, 1.0]
    assert breaker.snapshot(141)["commands"] == 2


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, SUCCESS),
        (BadOutputError(), FAILURE),
        (RuntimeRejectedError(), IGNORED),
        (RuntimeCircuitOpenError("", 20.0), CallResult(Verdict.NO_INFORMATION, wait_s=20.0)),
    ],
)
def test_only_failures_of_the_model_count(error, result):
    assert call_result(error) == result


def test_a_bucket_of_calls_is_dropped_one_window_after_it_began():
    window, other = CallWindow(window_s=60.0), CallWindow(window_s=60.0)
    window.add(100.0, failed=True, slow=False)
    window.add(105.9, failed=True, slow=False)  # still the bucket of 100.0
    window.add(106.0, failed=False, slow=True)
    other.adopt(window.snapshot(110.0), 510.0)

    counts = [window.counts(now) for now in (159.9, 160.0, 165.9, 166.0)]

    assert counts == [(3, 2, 1), (1, 0, 1), (1, 0, 1), (0, 0, 0)]
    assert [other.counts(now) for now in (559.9, 560.0, 565.9, 566.0)] == counts
