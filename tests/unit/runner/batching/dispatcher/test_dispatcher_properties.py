"""The dispatcher under random scripts and under load, all in virtual time."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batching.dispatcher import BatchResult, QueueStats
from runner.batching.latency_model import LatencyModel
from runner.errors import QueueFullError, RuntimeTimeoutError, TooLateError
from tests.support.virtual_time import run_virtual
from tests.unit.runner.batching.dispatcher.dispatching import (
    BULK,
    URGENT,
    Harness,
    Runtime,
    answers,
)

LEASE_S = 6.0
FORGETS_S = 10
TIMER_GRAIN_S = 0.001
ROUNDING_S = 1e-6  # a loop fires timers up to its clock's resolution early


@dataclass(frozen=True)
class Arrival:
    """What one caller does: comes ``after_s`` the one before, may leave ``leaves_s`` later."""

    after_s: float
    key: str
    bulk: bool
    within_s: float
    size_bytes: int
    leaves_s: float | None


@dataclass(frozen=True)
class Act:
    """What the runtime does with one call."""

    kind: str
    seconds: float


Rules = dict[str, int]  # arguments of the harness

ARRIVALS = st.lists(
    st.builds(
        Arrival,
        after_s=st.sampled_from([0, 0, 0, 0.1, 0.7, 3]),
        key=st.sampled_from(["a1", "a2", "b1"]),
        bulk=st.booleans(),
        within_s=st.sampled_from([0.05, 0.5, 1, 2, 5, 20]),
        size_bytes=st.integers(0, 9),
        leaves_s=st.sampled_from([None, None, None, 0, 0.3, 2]),
    ),
    min_size=1,
    max_size=40,
)
ACTS = st.lists(
    st.builds(
        Act,
        kind=st.sampled_from(
            ["good", "good", "good", "raise", "cancel", "miscount", "linger", "hang"]
        ),
        seconds=st.sampled_from([0, 0.1, 0.5, 1, 4, 9]),
    ),
    min_size=1,
    max_size=8,
)
RULES = st.fixed_dictionaries(
    {
        "slots_per_model": st.integers(1, 2),
        "max_batch_size": st.integers(1, 5),
        "max_batch_bytes": st.integers(5, 30),
        "max_queued_items": st.integers(1, 12),
    }
)


@dataclass
class Item:
    serial: int
    arrival: Arrival
    deadline: float
    answer: asyncio.Future[Any] | None = None
    answered_at: float = inf
    sent_at: float = inf

    def note_answer(self, _: object) -> None:
        self.answered_at = asyncio.get_running_loop().time()


@dataclass
class Call:
    key: str
    items: list[Item]
    started_at: float
    frees_slot_at: float = inf


@dataclass
class ScriptedRuntime:
    """Plays its acts in turn and checks each call against what the dispatcher may know."""

    acts: list[Act]
    rules: Rules
    calls: list[Call] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lessons: list[tuple[str, int, float, float]] = field(default_factory=list)

    async def __call__(self, key: str, items: list[Item]) -> BatchResult[Any]:
        now = asyncio.get_running_loop().time()
        call = Call(key, items, now)
        self.faults += self.complaints(call)
        for item in items:
            item.sent_at = now
        self.calls.append(call)
        act = self.acts[len(self.calls) % len(self.acts)]
        try:
            return await self.play(act, call)
        finally:
            if call.frees_slot_at == inf:
                call.frees_slot_at = asyncio.get_running_loop().time()

    def complaints(self, call: Call) -> list[str]:
        """What must not be at the moment a call begins; raising would look like a failed call."""
        open_calls = [c for c in self.calls if c.frees_slot_at > call.started_at + ROUNDING_S]
        same_queue = [c for c in open_calls if c.key[0] == call.key[0]]
        total_bytes = sum(item.arrival.size_bytes for item in call.items)
        finish = call.started_at + self.expected_s(call)
        verdicts = {
            "more calls than slots": len(same_queue) >= self.rules["slots_per_model"],
            "size": not 1 <= len(call.items) <= self.rules["max_batch_size"],
            "mixed keys": {item.arrival.key for item in call.items} != {call.key},
            "bytes": len(call.items) > 1 and total_bytes > self.rules["max_batch_bytes"],
            "too late": any(finish > item.deadline + ROUNDING_S for item in call.items),
            "sent twice": any(item.sent_at != inf for item in call.items),
            "had its answer": any(item.answered_at < call.started_at for item in call.items),
        }
        return [name for name, holds in verdicts.items() if holds]

    async def play(self, act: Act, call: Call) -> BatchResult[Any]:
        loop = asyncio.get_running_loop()
        serials = [item.serial for item in call.items]
        if act.kind == "hang":
            await loop.create_future()
        if act.kind == "linger":
            end: asyncio.Future[None] = loop.create_future()
            call.frees_slot_at = min(call.started_at + act.seconds, call.started_at + LEASE_S)
            loop.call_later(act.seconds, self.end_lingering, call, act.seconds, end)
            await asyncio.sleep(act.seconds / 3)
            return BatchResult([RuntimeTimeoutError() for _ in serials], abandoned=end)
        await asyncio.sleep(act.seconds)
        if act.kind == "raise":
            raise ValueError(serials)
        if act.kind == "cancel":
            raise asyncio.CancelledError
        if act.kind == "miscount":
            return BatchResult([*serials, -1])
        self.learn(call, act.seconds)
        return BatchResult(serials)

    def end_lingering(self, call: Call, seconds: float, end: asyncio.Future[None]) -> None:
        end.set_result(None)
        if seconds < LEASE_S:
            self.learn(call, seconds)

    def learn(self, call: Call, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self.lessons.append((call.key, len(call.items), seconds, now))

    def expected_s(self, call: Call) -> float:
        """The shorter of two forecasts: a call that ended this very moment may be known or not."""
        known: LatencyModel[str] = LatencyModel(FORGETS_S)
        forecasts = []
        for fresh in (False, True):
            for lesson in self.lessons:
                if (lesson[-1] > call.started_at - ROUNDING_S) is fresh:
                    known.observe(*lesson)
            forecasts.append(known.at(call.key, call.started_at).seconds(len(call.items)))
        return min(forecasts)


def queues_of(harness: Harness) -> list[QueueStats]:
    return list(harness.dispatcher.stats().values())


async def play(arrivals: list[Arrival], acts: list[Act], rules: Rules) -> tuple[list[Item], Any]:
    """Every item that was accepted, answered; and the runtime's calls."""
    runtime = ScriptedRuntime(acts, rules)
    harness = Harness(
        runtime,
        lease_s=LEASE_S,
        estimate_forgets_after_s=FORGETS_S,
        **rules,
    )
    items = []
    for serial, arrival in enumerate(arrivals):
        await asyncio.sleep(arrival.after_s)
        item = Item(serial, arrival, harness.now() + arrival.within_s)
        priority = BULK if arrival.bulk else URGENT
        try:
            item.answer = harness.put(
                item, arrival.key, arrival.within_s, arrival.size_bytes, priority=priority
            )
        except QueueFullError:
            assert harness.queue_stats(arrival.key[0]).queued == rules["max_queued_items"]
            assert arrival.bulk or harness.queue_stats(arrival.key[0]).queued_bulk == 0
            continue
        items.append(item)
        item.answer.add_done_callback(item.note_answer)
        if arrival.leaves_s is not None:
            asyncio.get_running_loop().call_later(arrival.leaves_s, item.answer.cancel)
        assert all(one.queued <= rules["max_queued_items"] for one in queues_of(harness))
    await asyncio.wait([item.answer for item in items if item.answer])
    await asyncio.sleep(2 * LEASE_S)
    assert all(queue.in_flight == queue.queued == 0 for queue in queues_of(harness))
    assert runtime.faults == []
    return items, runtime.calls


@settings(max_examples=150, deadline=None)
@given(ARRIVALS, ACTS, RULES)
def test_each_item_gets_one_right_answer_in_time_and_in_order(arrivals, acts, rules):
    items, calls = run_virtual(play(arrivals, acts, rules))

    for item in items:
        assert item.answer is not None
        if item.sent_at == inf and not item.answer.cancelled():
            assert isinstance(item.answer.exception(), TooLateError | QueueFullError)
            assert item.answered_at <= item.deadline + TIMER_GRAIN_S + ROUNDING_S
        elif not item.answer.cancelled() and item.answer.exception() is None:
            assert item.answer.result() == item.serial
    for key in ("a1", "a2", "b1"):
        for bulk in (True, False):
            sent = [
                item.serial
                for call in calls
                if call.key == key
                for item in call.items
                if item.arrival.bulk is bulk
            ]
            assert sent == sorted(sent)


def sizes(runtime):
    return [len(call.items) for call in runtime.calls]


async def test_bulk_alone_is_sent_in_as_few_calls_as_possible():
    runtime = Runtime(fixed_s=0.037, per_item_s=0.0009)
    harness = Harness(runtime, max_batch_size=128)

    await answers(harness.put_all(range(1000), priority=BULK))

    assert sizes(runtime) == [128] * 7 + [104]
    assert all(later.started_at == earlier.ended_at for earlier, later in pairwise(runtime.calls))
