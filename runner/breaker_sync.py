"""How the boards of many replicas and the shared one stay one truth: both sides, no network here.

    replica                                            shared
    -------------------------------------------------  ---------------------------------------------
    decides on its own copy, records there at once,
    and numbers a report of every result
    every sync: reports not yet confirmed        --->  counts those it has not seen, by their number
    drops what is confirmed, adopts the         <---   confirms, and sends the whole board
    board, replays what is not confirmed yet
    only before a probe: the same, asking for it --->  the same, and takes the permit on its board
    if ``entries`` is None: sends what it knows <---   a new actor, or a stranger: asks for more
                                                 --->  merges it (breaker_board), then as above

A report is sent again until it is confirmed and counted once, so neither a lost request nor a lost
answer distorts a count. Replaying means that the copy is never older than what the replica itself
just did, even when results came in while an answer was under way. Answers carry a version: one that
was overtaken by a newer one is dropped.

A replica that cannot reach the shared board goes on alone, probes included. Having probed alone it
no longer calls itself known, so that at the next contact its view is merged, not overwritten; for
the same reason it drops answers to what it sent before that probe. What it knows is sent only when
asked for: requests can lie in the queue of a stopped actor for minutes, and ages in them would by
then be wrong.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

from runner.breaker import Outcome, Permit, Refusal
from runner.breaker_board import BoardSnapshot, BreakerBoard, Command
from runner.types import BreakerState

MAX_REPORTS = 1024  # seconds of results at full load; more could only repeat what they say
MAX_REPLICAS = 1024  # remembered by the shared side, to count no report twice
NO_EPOCH = 0  # of a replica that is known to no shared board


@dataclass(frozen=True, slots=True)
class Report:
    """One result on its way to the shared board; numbers rise by one within a replica."""

    number: int
    name: str
    permit: Permit
    outcome: Outcome
    duration_s: float


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a replica has to say.

    Attributes:
        replica: unique to one life of one process.
        epoch: of the shared board it last adopted.
        last_number: of the newest result in ``reports`` or ``known``.
        reports: results that are not confirmed yet, oldest first.
        known: its whole board, when asked for.
        probes_alone: how many probes it took without asking so far.
    """

    replica: str
    epoch: int
    last_number: int
    reports: tuple[Report, ...] = ()
    known: BoardSnapshot | None = None
    probes_alone: int = 0


@dataclass(frozen=True, slots=True)
class SyncReply:
    """What the shared board answers.

    Attributes:
        epoch: names one life of the shared board; later lives have higher numbers.
        version: rises with every answer of that life.
        confirmed: the newest report of this replica that is counted, or part of a merge.
        entries: the whole board; None asks the replica for what it knows.
        answer: to a request for a probe.
        probes_alone: as the request had it.
    """

    epoch: int
    version: int = 0
    confirmed: int = 0
    entries: BoardSnapshot | None = None
    answer: Permit | Refusal | None = None
    probes_alone: int = 0


class SharedBoard:
    """The one truth of an application, kept by the actor."""

    def __init__(self, board: BreakerBoard, epoch: int) -> None:
        self._board = board
        self._epoch = epoch
        self._version = 0
        self._commands = 0
        self._confirmed: OrderedDict[str, int] = OrderedDict()  # by replica, longest silent first

    def sync(self, request: SyncRequest, now: float) -> SyncReply:
        """Take in a replica's results, and tell it what holds."""
        if not self._take_in(request, now):
            return SyncReply(self._epoch)
        return self._reply(request, now)

    def acquire(self, name: str, request: SyncRequest, now: float) -> SyncReply:
        """The same, with a permit or a refusal decided here, for all replicas."""
        if not self._take_in(request, now):
            return SyncReply(self._epoch)
        answer = self._board.acquire(name, now)
        return self._reply(request, now, answer)

    def command(self, name: str, command: Command, now: float) -> BreakerState:
        """Do as the operator says; numbered so that later lives of this board count on.

        The answer is the state that it leads to.
        """
        self._commands += 1
        self._board.command(name, command, self._epoch + self._commands, now)
        return self._board.state(name, now)

    def status(self, now: float) -> BoardSnapshot:
        """Every breaker as the whole application sees it."""
        return self._board.snapshot(now)

    def _take_in(self, request: SyncRequest, now: float) -> bool:
        confirmed = self._confirmed.get(request.replica, 0)
        if request.epoch == self._epoch:
            for report in request.reports:
                if report.number > confirmed:
                    self._board.record(
                        report.name, report.permit, report.outcome, report.duration_s, now
                    )
        elif request.known is not None:
            self._board.merge(request.known, now)
        else:
            return False
        self._confirm(request.replica, max(confirmed, request.last_number))
        return True

    def _confirm(self, replica: str, number: int) -> None:
        self._confirmed[replica] = number
        self._confirmed.move_to_end(replica)
        if len(self._confirmed) > MAX_REPLICAS:
            self._confirmed.popitem(last=False)

    def _reply(
        self, request: SyncRequest, now: float, answer: Permit | Refusal | None = None
    ) -> SyncReply:
        self._version += 1
        return SyncReply(
            self._epoch,
            self._version,
            self._confirmed[request.replica],
            self._board.snapshot(now),
            answer,
            request.probes_alone,
        )


class ReplicaBoard:
    """One replica's copy: decides at once, and keeps what the shared board has yet to hear."""

    def __init__(self, board: BreakerBoard, replica: str) -> None:
        self._board = board
        self._replica = replica
        self._epoch = NO_EPOCH
        self._version = 0
        self._last_number = 0
        self._probes_alone = 0
        self._unconfirmed: deque[Report] = deque(maxlen=MAX_REPORTS)

    def acquire(self, name: str, now: float) -> Permit | Refusal | None:
        """A decision on the copy; None where the shared board has to be asked: for a probe."""
        half_open = self._board.state(name, now) is BreakerState.HALF_OPEN
        if half_open and self._board.retry_in_s(name, now) == 0:
            return None
        return self._board.acquire(name, now)

    def acquire_alone(self, name: str, now: float) -> Permit | Refusal:
        """A decision on the copy, probes included: the shared board cannot be asked."""
        answer = self._board.acquire(name, now)
        if isinstance(answer, Permit) and answer.lease is not None:
            self._epoch = NO_EPOCH
            self._probes_alone += 1
        return answer

    def record(
        self, name: str, permit: Permit, outcome: Outcome, duration_s: float, now: float
    ) -> None:
        """How a call ended: known here at once, elsewhere after the next sync."""
        self._board.record(name, permit, outcome, duration_s, now)
        self._last_number += 1
        self._unconfirmed.append(Report(self._last_number, name, permit, outcome, duration_s))

    def state(self, name: str, now: float) -> BreakerState:
        """The state of a breaker as far as this replica knows."""
        return self._board.state(name, now)

    def retry_in_s(self, name: str, now: float) -> float:
        """How long asking is pointless, 0.0 if it is not."""
        return self._board.retry_in_s(name, now)

    def news(self) -> SyncRequest:
        """What the shared board has not confirmed yet."""
        return SyncRequest(
            self._replica,
            self._epoch,
            self._last_number,
            reports=tuple(self._unconfirmed),
            probes_alone=self._probes_alone,
        )

    def everything(self, now: float) -> SyncRequest:
        """What this replica knows, for a shared board that asked."""
        return SyncRequest(
            self._replica,
            NO_EPOCH,
            self._last_number,
            known=self._board.snapshot(now),
            probes_alone=self._probes_alone,
        )

    def receive(self, reply: SyncReply, now: float) -> bool:
        """Adopt an answer unless it is out of date; False if it asks for ``everything``."""
        if reply.entries is None:
            return False
        overtaken = reply.epoch == self._epoch and reply.version < self._version
        if overtaken or reply.probes_alone < self._probes_alone:
            return True
        self._epoch, self._version = reply.epoch, reply.version
        while self._unconfirmed and self._unconfirmed[0].number <= reply.confirmed:
            self._unconfirmed.popleft()
        self._board.adopt(reply.entries, now)
        self._replay(reply.entries, now)
        return True

    def _replay(self, entries: BoardSnapshot, now: float) -> None:
        """Results that came in meanwhile; a name the answer lacks still has them."""
        for report in self._unconfirmed:
            if report.name in entries:
                self._board.record(
                    report.name, report.permit, report.outcome, report.duration_s, now
                )
