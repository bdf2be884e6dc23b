"""What must hold for several replicas and the shared board, with and without faults between them.

Every process has a clock of its own. All times are sums of powers of two, so they are exact.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from runner.breaker import BreakerSnapshot, Outcome, Permit, Verdict
from runner.breaker_board import Command
from runner.breaker_sync import ReplicaBoard, SharedBoard, SyncReply, SyncRequest
from runner.types import BreakerState
from tests.breakers import FAILURE, FAST_S, SUCCESS, make_board, make_settings

FORCED = (BreakerState.FORCED_OPEN, BreakerState.FORCED_CLOSED)
NAMES = st.sampled_from(["m", "n"])
REPLICAS = st.integers(0, 3)  # taken modulo the number there is
OUTCOMES = st.sampled_from(
    [
        SUCCESS,
        SUCCESS,
        FAILURE,
        FAILURE,
        FAILURE,
        Outcome(Verdict.IGNORED),
        Outcome(Verdict.NO_INFORMATION, 16.0),
    ]
)
SYNC_S = 0.25


@dataclass
class Process:
    """A replica with its own clock, and the calls it is making."""

    name: str
    offset_s: float
    board: ReplicaBoard
    calls: list[tuple[str, Permit]] = field(default_factory=list)
    heard: tuple[int, int] = (0, 0)  # epoch and version of the newest answer

    def known(self, name: str, now: float) -> BreakerSnapshot | None:
        return (self.board.everything(self.offset_s + now).known or {}).get(name)

    def receive(self, reply: SyncReply, now: float) -> bool:
        accepted = self.board.receive(reply, self.offset_s + now)
        if accepted:
            self.heard = max(self.heard, (reply.epoch, reply.version))
        return accepted


class Reliable(RuleBasedStateMachine):
    """Nothing between replicas and the shared board is ever lost."""

    @initialize(
        replicas=st.integers(2, 4),
        probes=st.integers(1, 2),
        successes=st.integers(1, 2),
        cooldown_s=st.sampled_from([2.0, 100.0]),
        failure_rate=st.sampled_from([None, 0.5]),
    )
    def begin(self, replicas, probes, successes, cooldown_s, failure_rate):
        self.changes = {
            "probes": probes,
            "successes_to_close": successes,
            "cooldown_s": cooldown_s,
            "failure_rate": failure_rate,
            "min_calls": 8,
        }
        self.settings = make_settings(**self.changes)
        self.now = 0.0
        self.lives = 0
        self.probes_out: dict[str, dict[str, float]] = {"m": {}, "n": {}}  # lease to its end
        self.results = {"m": 0, "n": 0}
        self.shared = self.born()
        self.processes = [
            Process(f"r{n}", 1000.0 * n, self.replica_board(f"r{n}")) for n in range(replicas)
        ]

    def born(self) -> SharedBoard:
        self.lives += 1
        epoch = 1000 * self.lives
        return SharedBoard(make_board(owner=f"shared{epoch}", **self.changes), epoch)

    def replica_board(self, name: str) -> ReplicaBoard:
        return ReplicaBoard(make_board(owner=name, **self.changes), name)

    def at(self, process: Process) -> float:
        return self.now + process.offset_s

    def shared_now(self) -> float:
        return self.now - 512.0

    def pick(self, number: int) -> Process:
        return self.processes[number % len(self.processes)]

    # -- the exchange ------------------------------------------------------------------------

    def exchange(self, process: Process) -> None:
        board = process.board
        if not process.receive(self.ask_sync(board.news()), self.now):
            reply = self.ask_sync(board.everything(self.at(process)))
            assert process.receive(reply, self.now)

    def ask_sync(self, request: SyncRequest) -> SyncReply:
        return self.shared.sync(request, self.shared_now())

    def acquire(self, process: Process, name: str) -> Permit | None:
        answer = process.board.acquire(name, self.at(process))
        if answer is None:
            reply = self.shared.acquire(name, process.board.news(), self.shared_now())
            process.receive(reply, self.now)
            answer = reply.answer
        return answer if isinstance(answer, Permit) else None

    # -- what happens ------------------------------------------------------------------------

    @rule(quarters=st.one_of(st.integers(1, 8), st.integers(1, 800)))
    def time_passes(self, quarters: int) -> None:
        self.now += quarters * SYNC_S
        for leases in self.probes_out.values():
            for lease in [k for k, end in leases.items() if end <= self.now]:
                del leases[lease]

    @rule(number=REPLICAS, name=NAMES)
    def call_begins(self, number: int, name: str) -> None:
        process = self.pick(number)
        permit = self.acquire(process, name)
        if permit is not None:
            process.calls.append((name, permit))
            if permit.lease is not None:
                assert permit.lease not in self.probes_out[name]
                self.probes_out[name][permit.lease] = self.now + self.settings.probe_lease_s

    @rule(number=REPLICAS, which=st.integers(0, 9), outcome=OUTCOMES)
    def call_ends(self, number: int, which: int, outcome: Outcome) -> None:
        process = self.pick(number)
        if process.calls:
            name, permit = process.calls.pop(which % len(process.calls))
            self.results[name] += outcome in (SUCCESS, FAILURE)
            process.board.record(name, permit, outcome, FAST_S, self.at(process))
            self.probes_out[name].pop(permit.lease or "", None)

    @rule(number=REPLICAS, name=NAMES)
    def model_breaks_down(self, number: int, name: str) -> None:
        """Four calls in a row that fail."""
        for _ in range(4):
            self.call_begins(number, name)
            self.call_ends(number, -1, FAILURE)

    @rule(number=REPLICAS)
    def calls_are_lost(self, number: int) -> None:
        self.pick(number).calls.clear()

    @rule(number=REPLICAS)
    def syncs(self, number: int) -> None:
        self.exchange(self.pick(number))

    @rule(name=NAMES, command=st.sampled_from(Command))
    def operator_speaks(self, name: str, command: Command) -> None:
        self.shared.command(name, command, self.shared_now())

    @rule(number=REPLICAS)
    def replica_restarts(self, number: int) -> None:
        process = self.pick(number)
        name = f"{process.name}'"
        slot = self.processes.index(process)
        self.processes[slot] = Process(name, process.offset_s, self.replica_board(name))

    @rule()
    def a_second_without_faults_makes_all_agree(self) -> None:
        for _ in range(2):
            for process in self.processes:
                self.exchange(process)
            self.time_passes(1)

        truth = self.shared.status(self.shared_now())
        for process in self.processes:
            for name, entry in truth.items():
                assert process.board.state(name, self.at(process)) == entry["state"]
                assert process.board.retry_in_s(name, self.at(process)) == entry["retry_in_s"]

    # -- what must hold ----------------------------------------------------------------------

    @invariant()
    def no_wait_is_longer_than_promised(self) -> None:
        for process in self.processes:
            for name in ("m", "n"):
                wait_s = process.board.retry_in_s(name, self.at(process))
                assert 0.0 <= wait_s <= self.settings.cooldown_max_s

    @invariant()
    def nobody_counts_more_results_than_there_were(self) -> None:
        views = [self.shared.status(self.shared_now()).get("m")]
        views += [process.known("m", self.now) for process in self.processes]
        for view in views:
            assert view is None or calls_in(view) <= self.results["m"]

    @invariant()
    def no_copy_is_older_than_what_its_own_replica_just_saw(self) -> None:
        for process in self.processes:
            known = process.known("m", self.now)
            if known is not None and known["state"] == BreakerState.CLOSED:
                assert known["consecutive"] >= self.failures_at_the_end(process, known)

    def failures_at_the_end(self, process: Process, known: BreakerSnapshot) -> int:
        """Failures in a row that only this replica knows of yet."""
        failures = 0
        for report in process.board.news().reports:
            if report.name == "m" and report.permit.generation == known["generation"]:
                failures += report.outcome == FAILURE
                failures *= report.outcome != SUCCESS
        return failures

    def teardown(self) -> None:
        """Whatever came before, a model that is well again is soon in use everywhere."""
        if not hasattr(self, "processes"):
            return
        for process in self.processes:
            process.calls.clear()
        for _ in range(3):
            self.recover("m")
        state = BreakerState(self.shared.status(self.shared_now())["m"]["state"])
        assert state in (BreakerState.CLOSED, *FORCED)
        for process in self.processes:
            self.exchange(process)
            assert process.board.state("m", self.at(process)) is state

    def recover(self, name: str) -> None:
        """One call that succeeds wherever leave is given."""
        for process in self.processes:
            self.exchange(process)
            self.now += process.board.retry_in_s(name, self.at(process))
            self.exchange(process)
            permit = self.acquire(process, name)
            if permit is not None:
                self.results[name] += 1
                process.board.record(name, permit, SUCCESS, FAST_S, self.at(process))
            self.exchange(process)


class ReliableMachine(Reliable):
    @invariant()
    def never_are_more_probes_out_than_allowed_over_all_replicas(self) -> None:
        assert all(len(out) <= self.settings.probes for out in self.probes_out.values())


class LossyMachine(Reliable):
    """Requests and answers get lost or come late, and the actor forgets everything."""

    held: list[SyncRequest]
    answers: list[tuple[Process, SyncReply]]

    @initialize()
    def nothing_under_way(self) -> None:
        self.held = []
        self.answers = []
        self.reachable = True

    def acquire(self, process: Process, name: str) -> Permit | None:
        answer = process.board.acquire(name, self.at(process))
        if answer is None and not self.reachable:
            answer = process.board.acquire_alone(name, self.at(process))
        if answer is not None:
            return answer if isinstance(answer, Permit) else None
        return super().acquire(process, name)

    @rule()
    def actor_is_out_of_reach(self) -> None:
        self.reachable = False

    @rule()
    def actor_is_in_reach(self) -> None:
        self.reachable = True

    @precondition(lambda self: self.reachable)
    @rule(number=REPLICAS)
    def syncs(self, number: int) -> None:
        self.exchange(self.pick(number))

    @rule(number=REPLICAS)
    def answer_is_lost(self, number: int) -> None:
        self.ask_sync(self.pick(number).board.news())

    @rule(number=REPLICAS, successes=st.integers(1, 5))
    def results_are_told_twice_because_an_answer_was_lost(self, number, successes):
        process = self.pick(number)
        self.exchange(process)
        before = self.shared.status(self.shared_now()).get("m")
        for _ in range(successes):
            self.call_succeeds(process)
        self.ask_sync(process.board.news())
        self.exchange(process)

        after = self.shared.status(self.shared_now()).get("m")
        if before and after and before["state"] == after["state"] == BreakerState.CLOSED:
            assert calls_in(after) == calls_in(before) + successes

    @rule(number=REPLICAS, successes=st.integers(1, 5))
    def results_come_in_while_an_answer_is_under_way(self, number, successes):
        process = self.pick(number)
        self.exchange(process)
        reply = self.ask_sync(process.board.news())
        for _ in range(successes):
            self.call_succeeds(process)
        before = process.known("m", self.now)

        process.receive(reply, self.now)

        assert process.known("m", self.now) == before

    def call_succeeds(self, process: Process) -> None:
        permit = self.acquire(process, "m")
        if permit is not None:
            self.results["m"] += 1
            process.board.record("m", permit, SUCCESS, FAST_S, self.at(process))

    @rule(number=REPLICAS)
    def answer_is_late(self, number: int) -> None:
        process = self.pick(number)
        self.answers.append((process, self.ask_sync(process.board.news())))

    @precondition(lambda self: self.answers)
    @rule()
    def late_answer_arrives(self) -> None:
        process, reply = self.answers.pop(0)
        before = process.board.news(), process.known("m", self.now)
        overtaken = (reply.epoch, reply.version) < process.heard

        process.receive(reply, self.now)

        if overtaken and process.board.news().epoch == before[0].epoch == reply.epoch:
            assert (process.board.news(), process.known("m", self.now)) == before

    @rule(number=REPLICAS)
    def request_is_late(self, number: int) -> None:
        self.held.append(self.pick(number).board.news())

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def late_request_arrives(self, which: int) -> None:
        self.ask_sync(self.held.pop(which % len(self.held)))

    @rule(name=NAMES)
    def leave_to_probe_is_lost(self, name: str) -> None:
        for process in self.processes:
            if process.board.acquire(name, self.at(process)) is None:
                self.shared.acquire(name, process.board.news(), self.shared_now())

    @rule()
    def actor_restarts_with_nothing(self) -> None:
        self.shared = self.born()
        self.answers = []  # they died with the one that gave them

    def teardown(self) -> None:
        if hasattr(self, "processes"):
            self.reachable = True
        super().teardown()


ReliableMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
LossyMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWithoutFaults = ReliableMachine.TestCase
TestWithFaults = LossyMachine.TestCase


def calls_in(entry: BreakerSnapshot) -> int:
    return sum(calls for _, calls, _, _ in entry["window"])
