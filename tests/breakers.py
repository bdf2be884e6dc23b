"""Builders for the tests of the circuit breaker."""

from itertools import count
from typing import Any

from runner.breaker import Breaker, BreakerSnapshot, Outcome, Permit, Refusal, Verdict
from runner.breaker_board import BreakerBoard
from runner.breaker_sync import ReplicaBoard, SharedBoard
from runner.sections import CircuitBreakerSection
from runner.types import BreakerState

SUCCESS = Outcome(Verdict.SUCCESS)
FAILURE = Outcome(Verdict.FAILURE)
IGNORED = Outcome(Verdict.IGNORED)
NO_INFORMATION = Outcome(Verdict.NO_INFORMATION, wait_s=16.0)

FAST_S = 0.1
SLOW_S = 2.0


def make_settings(**changes: Any) -> CircuitBreakerSection:
    """Small numbers that are easy to walk through by hand; no jitter, no rates."""
    values: dict[str, Any] = {
        "consecutive_failures": 3,
        "window_s": 60.0,
        "min_calls": 10,
        "failure_rate": None,
        "slow_call_s": 1.0,
        "slow_call_rate": None,
        "cooldown_s": 100.0,
        "cooldown_growth": 2.0,
        "cooldown_max_s": 350.0,
        "cooldown_jitter_fraction": 0.0,
        "probes": 1,
        "probe_lease_s": 5.0,
        "successes_to_close": 1,
        "sync_interval_s": 0.25,
        "shared_timeout_s": 0.2,
        "ingress_memory_s": 1.0,
    }
    return CircuitBreakerSection(**(values | changes))


def make_breaker(*, jitter: float = 0.5, owner: str = "p", **changes: Any) -> Breaker:
    return Breaker(make_settings(**changes), lambda: jitter, (f"{owner}{n}" for n in count(1)))


def permit_of(answer: Permit | Refusal | None) -> Permit:
    """The permit that must have been given."""
    assert isinstance(answer, Permit), f"refused: {answer}"
    return answer


def call(breaker: Breaker, outcome: Outcome, now: float, duration_s: float = FAST_S) -> None:
    """One whole call at one moment."""
    breaker.record(permit_of(breaker.acquire(now)), outcome, duration_s, now)


def open_by_failures(breaker: Breaker, now: float, failures: int = 3) -> None:
    for _ in range(failures):
        call(breaker, FAILURE, now)


COOLDOWN_S = 100.0
NOW = 1000.0  # by then a breaker under test has reached its state


def bring_to(breaker: Breaker, state: BreakerState) -> None:
    """The state, reached at ``NOW`` (from closed)."""
    if state is BreakerState.OPEN:
        open_by_failures(breaker, NOW)
    elif state is BreakerState.HALF_OPEN:
        open_by_failures(breaker, NOW - COOLDOWN_S)
    elif state is BreakerState.FORCED_OPEN:
        breaker.force_open(NOW, command=1)
    elif state is BreakerState.FORCED_CLOSED:
        breaker.force_close(NOW, command=1)


class Subject:
    """A breaker in a known state at ``NOW``, with a permit of that state where there can be one."""

    def __init__(self, state: BreakerState, **changes: Any) -> None:
        self.breaker = make_breaker(slow_call_rate=0.9, **changes)
        self.permit = Permit(generation=-1)
        bring_to(self.breaker, state)
        if state not in (BreakerState.OPEN, BreakerState.FORCED_OPEN):
            self.permit = permit_of(self.breaker.acquire(NOW))

    def ends(self, outcome: Outcome, duration_s: float = FAST_S) -> None:
        self.breaker.record(self.permit, outcome, duration_s, NOW)


def make_board(*, owner: str = "r1", max_breakers: int = 8, **changes: Any) -> BreakerBoard:
    return BreakerBoard(make_settings(**changes), lambda: 0.5, owner, max_breakers)


def call_on(board: BreakerBoard, name: str, outcome: Outcome, now: float) -> None:
    """One whole call at one moment."""
    board.record(name, permit_of(board.acquire(name, now)), outcome, FAST_S, now)


def fail(board: BreakerBoard, name: str, now: float, failures: int = 3) -> None:
    for _ in range(failures):
        call_on(board, name, FAILURE, now)


def make_shared(*, epoch: int = 1000, **changes: Any) -> SharedBoard:
    return SharedBoard(make_board(owner=f"shared{epoch}", **changes), epoch)


def make_replica(name: str = "r1", **changes: Any) -> ReplicaBoard:
    return ReplicaBoard(make_board(owner=name, **changes), name)


def sync(replica: ReplicaBoard, shared: SharedBoard, now: float) -> None:
    """One exchange in which nothing is lost."""
    if not replica.receive(shared.sync(replica.news(), now), now):
        assert replica.receive(shared.sync(replica.everything(now), now), now)


def tell(replica: ReplicaBoard, outcome: Outcome, now: float, times: int = 1) -> None:
    """Whole calls that need no probe."""
    for _ in range(times):
        answer = replica.acquire("m", now)
        assert isinstance(answer, Permit)
        replica.record("m", answer, outcome, FAST_S, now)


def met(shared: SharedBoard, *names: str, now: float = NOW, **changes: Any) -> list[ReplicaBoard]:
    """Replicas that the shared board already knows."""
    replicas = [make_replica(name, **changes) for name in names]
    for replica in replicas:
        sync(replica, shared, now)
    return replicas


def entry_of(shared: SharedBoard, now: float = NOW) -> BreakerSnapshot:
    return shared.status(now)["m"]


def ask(replica: ReplicaBoard, shared: SharedBoard, now: float) -> Permit | Refusal | None:
    """The answer of the shared board to a replica that wants to probe."""
    assert replica.acquire("m", now) is None
    reply = shared.acquire("m", replica.news(), now)
    replica.receive(reply, now)
    return reply.answer
