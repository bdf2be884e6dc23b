import random
import weakref
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.batching.batch_policy import BatchLimits
from runner.batching.latency_model import UNKNOWN
from runner.batching.queue import ItemQueue, WaitingItem
from runner.errors import QueueFullError
from runner.types import Priority

BULK, URGENT = Priority.BULK, Priority.INTERACTIVE


@dataclass(slots=True, eq=False, weakref_slot=True)
class Named(WaitingItem[str]):
    name: str = ""


def urgent(name, key="k", deadline=inf, arrived_at=0.0):
    return Named(key, deadline, 1, URGENT, arrived_at, name)


def bulk(name, key="k", deadline=inf, arrived_at=0.0):
    return Named(key, deadline, 1, BULK, arrived_at, name)


def queue_of(*items, max_items=100):
    queue: ItemQueue[str, Named] = ItemQueue(max_items)
    for item in items:
        queue.put(item)
    return queue


def up_to(max_items, max_bulk=inf):
    most = min(max_items, max_bulk)
    return lambda key: BatchLimits(max_items, most, 10**9, inf, UNKNOWN, 0.0)


def next_call(queue, max_items=100):
    """The call as one word, such as ``"ab"``."""
    return names(queue.cut(up_to(max_items)).send)


def names(items):
    return "".join(item.name for item in items)


def test_the_limits_are_those_of_the_chosen_key():
    queue = queue_of(*map(urgent, "abc"), urgent("x", "single"), urgent("y", "single"))

    limits_of = {"k": up_to(2)("k"), "single": up_to(1)("single")}.__getitem__

    assert [names(queue.cut(limits_of).send) for _ in range(4)] == ["ab", "x", "c", "y"]


ORDERS = {
    "order of arrival within a key": (["k:abc"], 2, ["ab", "c"]),
    "one key in a call": (["k:a", "m:b", "k:c"], 9, ["ac", "b"]),
    "the key that has waited longest first": (
        ["k:abcdef", "m:x", "n:y"],
        2,
        ["ab", "x", "y", "cd", "ef"],
    ),
    "interactive before earlier bulk": (["k:XY", "k:ab"], 3, ["abX", "Y"]),
    "interactive key before earlier bulk key": (["m:X", "k:a"], 9, ["a", "X"]),
    "bulk fills the places left": (["k:WXYZ", "k:a"], 3, ["aWX", "YZ"]),
    "bulk alone has the whole call": (["k:WXYZ"], 9, ["WXYZ"]),
    "bulk keys in turn": (["k:VWX", "m:YZ"], 1, ["V", "Y", "W", "Z", "X"]),
    "a bulk key without sent items keeps its place": (["k:X", "m:Y", "k:a"], 1, ["a", "X", "Y"]),
}


@pytest.mark.parametrize(("arrivals", "max_items", "calls"), ORDERS.values(), ids=ORDERS.keys())
def test_calls_by_order_of_arrival(arrivals, max_items, calls):
    """Arrivals are ``key:items``; upper case is bulk."""
    queue = queue_of()
    for key, _, given in (arrival.partition(":") for arrival in arrivals):
        for name in given:
            queue.put((bulk if name.isupper() else urgent)(name, key))

    assert [next_call(queue, max_items) for _ in calls] == calls
    assert len(queue) == 0


@pytest.mark.parametrize(
    ("interactive", "places", "bulk_in_calls"),
    [
        (4, 5, [1] * 6),
        (4, 6, [2] * 6),
        (5, 6, [1, 1, 1, 1, 6, 1]),
        (6, 6, [0, 0, 0, 0, 6, 0]),
    ],
)
def test_bulk_has_a_call_of_its_own_where_it_gets_less_than_a_fifth(
    interactive, places, bulk_in_calls
):
    queue = queue_of(*map(bulk, "0123456789XYZ"))
    calls = []
    for _ in range(6):
        for name in "abcdef"[: interactive - (len(queue) - queue.bulk_count)]:
            queue.put(urgent(name))
        calls.append(queue.cut(up_to(places)).send)

    assert [sum(item.priority is BULK for item in sent) for sent in calls] == bulk_in_calls


def test_the_count_before_a_bulk_call_restarts_after_all_bulk_was_sent():
    queue = queue_of(*[urgent(name, "other") for name in "abc"], bulk("x", "k"), urgent("m", "k"))
    assert [next_call(queue, 2) for _ in range(2)] == ["ab", "mx"]
    queue.put(bulk("y", "k"))
    for name in "defgh":
        queue.put(urgent(name, "other"))

    assert [next_call(queue, 1) for _ in range(6)] == list("cdefyg")


def test_a_bulk_key_that_fills_calls_does_not_block_another_bulk_key():
    queue = queue_of(*map(bulk, "123456"), bulk("x", "other"))
    calls = []
    for name in "abcdef":
        queue.put(urgent(name))
        calls.append(next_call(queue, 2))

    assert calls == ["a1", "b2", "c3", "d4", "e5", "x"]


def test_removed_items_are_not_kept_in_memory_until_their_deadline():
    stays = urgent("a")
    queue = queue_of(stays)
    left = []
    for _ in range(1000):
        item = urgent("b", deadline=1e9)
        queue.put(item)
        queue.remove(item)
        left.append(weakref.ref(item))
        del item

    assert sum(ref() is not None for ref in left) <= 66
    assert queue.next_deadline() == inf
    assert next_call(queue) == "a"


def test_deadlines_stay_in_order_after_most_items_were_removed():
    rng = random.Random(3)
    items = [urgent("a", deadline=rng.random()) for _ in range(400)]
    queue = queue_of(*items, max_items=1000)
    for item in rng.sample(items, 330):
        queue.remove(item)
    queue.put(urgent("b", deadline=2))

    deadlines = [item.deadline for item in queue.expire(1)]

    assert deadlines == sorted(item.deadline for item in items if item.deadline in deadlines)
    assert len(deadlines) == 70


class QueueMachine(RuleBasedStateMachine):
    """The queue against a plain list of the items that should be in it."""

    def __init__(self):
        super().__init__()
        self.queue: ItemQueue[str, Named] = ItemQueue(max_items=12)
        self.present: list[Named] = []
        self.now = 0.0
        self.calls_waited: dict[Named, int] = {}

    @rule(
        key=st.sampled_from("klm"),
        priority=st.sampled_from([BULK, URGENT]),
        within_s=st.integers(1, 40),
        copies=st.integers(1, 4),
    )
    def put(self, key, priority, within_s, copies):
        for _ in range(copies):
            item = Named(key, self.now + within_s, 1, priority, self.now)
            bulk_present = [other for other in self.present if other.priority is BULK]
            if len(self.present) < 12:
                assert self.queue.put(item) is None
            elif priority is URGENT and bulk_present:
                assert self.queue.put(item) is bulk_present[-1]
                self.present.remove(bulk_present[-1])
            else:
                with pytest.raises(QueueFullError, match="full"):
                    self.queue.put(item)
                return
            self.present.append(item)
            self.calls_waited[item] = 0

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def remove(self, data):
        item = data.draw(st.sampled_from(self.present))
        self.queue.remove(item)
        self.present.remove(item)

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds):
        self.now += seconds
        expired = self.queue.expire(self.now)
        assert set(expired) == {item for item in self.present if item.deadline <= self.now}
        self.present = [item for item in self.present if item not in expired]

    @precondition(lambda self: self.present)
    @rule(max_items=st.integers(1, 5))
    def cut(self, max_items):
        plan = self.queue.cut(up_to(max_items))
        key = plan.send[0].key
        assert {item.key for item in plan.send} == {key}
        assert len(plan.send) <= max_items
        for priority in (BULK, URGENT):
            sent = [item for item in plan.send if item.priority is priority]
            mine = [i for i in self.present if i.key == key and i.priority is priority]
            assert sent == mine[: len(sent)]
        self.present = [item for item in self.present if item not in plan.send]
        for item in self.present:
            self.calls_waited[item] += 1
            ahead = [i for i in plan.send if i.key == item.key and i.priority is item.priority]
            if ahead:  # its key and class had a call: the count starts again
                self.calls_waited[item] = 0
            # of 3 keys; bulk has a fifth of all calls; interactive waits for 2 keys and a bulk turn
            assert self.calls_waited[item] <= (15 if item.priority is BULK else 4)

    @invariant()
    def counts_agree(self):
        assert len(self.queue) == len(self.present)
        assert self.queue.bulk_count == sum(item.priority is BULK for item in self.present)
        assert self.queue.next_deadline() == min((i.deadline for i in self.present), default=inf)
        assert self.queue.oldest_arrival() == min(
            (item.arrived_at for item in self.present), default=None
        )
        assert all(item.queued for item in self.present)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_held_bulk_is_sent_only_without_interactive_items():
    queue = queue_of(*map(bulk, "xyz"), *map(urgent, "abcdefg"))
    calls = [names(queue.cut(up_to(1), hold_bulk=True).send) for _ in range(5)]
    calls.append(names(queue.cut(up_to(9), hold_bulk=True).send))

    assert calls == [*"abcde", "fg"]
    assert names(queue.cut(up_to(1), hold_bulk=True).send) == "x"


def test_the_only_key_is_known_while_all_items_are_interactive_and_have_it():
    other = urgent("c", "other")
    queue = queue_of()
    seen = [queue.only_key()]
    for item in (urgent("a"), urgent("b"), other):
        queue.put(item)
        seen.append(queue.only_key())
    queue.remove(other)
    seen.append(queue.only_key())
    queue.put(bulk("d"))
    seen.append(queue.only_key())

    assert seen == [None, "k", "k", None, "k", None]


def test_bulk_items_fill_a_call_only_up_to_the_size_of_a_short_one():
    queue = queue_of(*map(urgent, "abc"), *map(bulk, "wxyz"))
    limits = BatchLimits(100, 4, 10**9, inf, UNKNOWN, 0.0)

    assert names(queue.cut(lambda key: limits).send) == "abcw"
    queue.put(bulk("v"))
    for item in map(urgent, "defgh"):
        queue.put(item)
    assert names(queue.cut(lambda key: limits).send) == "defgh"
