import math

import pytest

from runner.breaker.shared import SharedBreakers, SyncRequest
from runner.breaker.state_machine import BreakerSnapshot, Permit, Refusal, Report
from runner.types import BreakerCommand, BreakerState
from tests.unit.runner.breaker.breakers import (
    FAILURE,
    FAST_S,
    NOW,
    SUCCESS,
    fail,
    make_breaker,
    make_breakers,
    make_shared,
    permit_of,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN
FAILED = Report("m", Permit(0), FAILURE, FAST_S)


class TestBreakers:
    def test_each_name_has_a_breaker_of_its_own(self):
        breakers = make_breakers()

        fail(breakers, "bad", NOW)

        assert (breakers.state("bad", NOW), breakers.state("good", NOW)) == (OPEN, CLOSED)
        assert (breakers.retry_in_s("bad", NOW), breakers.retry_in_s("good", NOW)) == (100.0, 0.0)

    def test_no_two_probes_have_the_same_name(self):
        breakers = make_breakers(owner="r1")
        for name in ("m", "n"):
            fail(breakers, name, NOW)

        probes = [breakers.acquire(name, NOW + 100) for name in ("m", "n")]

        assert probes == [Permit(2, "r1-1"), Permit(2, "r1-2")]

    def test_replacing_takes_over_every_name_and_forgets_others(self):
        theirs, ours = make_breakers(), make_breakers()
        fail(theirs, "m", NOW)
        fail(ours, "n", NOW)

        ours.replace_all(theirs.snapshot(NOW), NOW)

        assert ours.snapshot(NOW) == theirs.snapshot(NOW)


def snapshot(*, state: BreakerState = CLOSED, **changes: float) -> BreakerSnapshot:
    changes |= {"state": state.value, "retry_in_s": 10.0}  # type: ignore[dict-item]
    return make_breaker().snapshot(NOW) | changes  # type: ignore[return-value]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (
            snapshot(state=BreakerState.FORCED_OPEN, commands=1, changed_s_ago=90.0),
            snapshot(state=OPEN, commands=0, changed_s_ago=5.0),
        ),
        (
            snapshot(state=CLOSED, commands=2, changed_s_ago=90.0),
            snapshot(state=BreakerState.FORCED_OPEN, commands=1, changed_s_ago=5.0),
        ),
        (
            snapshot(state=OPEN, commands=1, changed_s_ago=5.0),
            snapshot(state=CLOSED, commands=1, changed_s_ago=6.5),
        ),
        (snapshot(state=OPEN, changed_s_ago=1e6), snapshot(changed_s_ago=math.inf, consecutive=2)),
    ],
    ids=["a command holds", "the newest command holds", "the later change", "any change"],
)
def test_of_two_breakers_the_more_recent_is_kept_in_either_order(better, worse, swap):
    breakers = make_breakers()
    first, second = (better, worse) if swap else (worse, better)

    breakers.learn({"m": first}, NOW)
    breakers.learn({"m": second}, NOW)

    assert breakers.snapshot(NOW)["m"]["state"] == better["state"]
    assert breakers.snapshot(NOW)["m"]["changed_s_ago"] == better["changed_s_ago"]


@pytest.mark.parametrize(("ours_s", "theirs_s"), [(6.0, 5.0), (5.0, 6.0), (math.inf, math.inf)])
def test_of_two_breakers_that_changed_within_a_second_the_own_one_is_kept(ours_s, theirs_s):
    breakers = make_breakers()
    breakers.learn({"m": snapshot(changed_s_ago=ours_s, consecutive=1)}, NOW)

    breakers.learn({"m": snapshot(changed_s_ago=theirs_s, consecutive=2)}, NOW)

    assert breakers.snapshot(NOW)["m"]["consecutive"] == 1


@pytest.mark.parametrize("theirs_s", [1.0, 90.0])
def test_running_probes_stay_counted_whichever_breaker_is_kept(theirs_s):
    ours, theirs = make_breakers(owner="r1", probes=2), make_breakers(owner="r2", probes=2)
    fail(ours, "m", NOW)
    fail(theirs, "m", NOW + theirs_s - 50)
    ours.acquire("m", NOW + 150)
    theirs.acquire("m", NOW + 150)

    ours.learn(theirs.snapshot(NOW + 150), NOW + 150)

    assert ours.snapshot(NOW + 150)["m"]["leases"] == {"r1-1": 5.0, "r2-1": 5.0}
    assert ours.acquire("m", NOW + 150) == Refusal(5.0)


class Actor:
    """The shared breakers and a clock to set."""

    def __init__(self, **changes: float) -> None:
        self.now = NOW
        self.shared: SharedBreakers = make_shared(lambda: self.now, "a", **changes)

    def sync(self, *reports: Report, probe: str | None = None, actor: str | None = "a"):
        return self.shared.sync(SyncRequest(actor, reports, probe))


class TestSharedBreakers:
    def test_results_sent_with_a_request_for_a_probe_count_first(self):
        actor = Actor(successes_to_close=2)
        actor.sync(FAILED, FAILED, FAILED)
        actor.now += 100
        probe = permit_of(actor.sync(probe="m").answer)

        reply = actor.sync(Report("m", probe, SUCCESS, FAST_S), probe="m")

        assert reply.answer == Permit(2, "a-2")

    @pytest.mark.parametrize(
        ("command", "state"),
        [
            (BreakerCommand.FORCE_OPEN, "forced_open"),
            (BreakerCommand.FORCE_CLOSED, "forced_closed"),
            (BreakerCommand.RESET, "closed"),
        ],
    )
    def test_a_command_holds_for_every_name_it_is_given_for(self, command, state):
        actor = Actor()
        actor.sync(FAILED, FAILED, FAILED)

        state_after = actor.shared.command(["n", "m"], command)

        assert state_after == state
        assert {name: b["state"] for name, b in (actor.sync().breakers or {}).items()} == {
            "m": state,
            "n": state,
        }
