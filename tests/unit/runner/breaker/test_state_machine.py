from collections.abc import Callable

import pytest

from runner.breaker.state_machine import Permit, Refusal
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import (
    COOLDOWN_S,
    FAILURE,
    IGNORED,
    NO_INFORMATION,
    NOW,
    SLOW_S,
    SUCCESS,
    Subject,
    bring_to,
    make_breaker,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN
FORCED_OPEN = BreakerState.FORCED_OPEN
FORCED_CLOSED = BreakerState.FORCED_CLOSED


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


@pytest.mark.parametrize("before", [CLOSED, OPEN, FORCED_OPEN, FORCED_CLOSED])
@pytest.mark.parametrize("event", list(EVENTS)[2:7])
def test_results_count_only_while_closed_or_half_open(before, event):
    subject = Subject(before)
    untouched = subject.breaker.snapshot(NOW)

    EVENTS[event](subject)

    counted = before is CLOSED and event in ("success", "slow success", "failure")
    assert (subject.breaker.snapshot(NOW) != untouched) is counted


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (CLOSED, Permit(generation=0, lease=None)),
        (OPEN, Refusal(retry_in_s=100.0)),
        (HALF_OPEN, Permit(generation=2, lease="p1")),
        (FORCED_OPEN, Refusal(retry_in_s=100.0)),
        (FORCED_CLOSED, Permit(generation=1)),
    ],
)
def test_acquire_answers_by_state(state, answer):
    breaker = make_breaker()
    bring_to(breaker, state)

    assert breaker.acquire(NOW) == answer
