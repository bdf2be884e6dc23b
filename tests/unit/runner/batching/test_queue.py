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


def line_of(*items, max_items=100, bulk_batch_size=2):
    line: ItemQueue[str, Named] = ItemQueue(max_items, bulk_batch_size)
    for item in items:
        line.put(item)
    return line


def up_to(max_items):
    return lambda key: BatchLimits(max_items, max_items, 10**9, inf, UNKNOWN, 0.0)


def next_call(line, max_items=100):
    """The call as one word, such as ``"ab"``."""
    return names(line.cut(up_to(max_items)).send)


def names(items):
    return "".join(item.name for item in items)


def test_items_of_a_key_leave_in_order_of_arrival():
    line = line_of(*map(urgent, "abc"))

    assert next_call(line, 2) == "ab"
    assert next_call(line, 2) == "c"


def test_a_call_holds_one_key():
    line = line_of(urgent("a", "k"), urgent("b", "other"), urgent("c", "k"))

    assert next_call(line) == "ac"
    assert next_call(line) == "b"


def test_the_limits_are_those_of_the_chosen_key():
    line = line_of(*map(urgent, "abc"), urgent("x", "single"), urgent("y", "single"))

    limits_of = {"k": up_to(2)("k"), "single": up_to(1)("single")}.__getitem__

    assert [names(line.cut(limits_of).send) for _ in range(4)] == ["ab", "x", "c", "y"]


def test_a_key_with_a_long_line_costs_another_key_one_call():
    line = line_of(*map(urgent, "abcdef"), urgent("x", "other"), urgent("y", "third"))

    assert [next_call(line, 2) for _ in range(5)] == ["ab", "x", "y", "cd", "ef"]


def test_interactive_items_go_before_bulk_items_that_came_first():
    line = line_of(*map(bulk, "xy"), *map(urgent, "ab"))

    assert next_call(line, 3) == "abx"


def test_an_interactive_key_goes_before_a_bulk_key_that_came_first():
    line = line_of(bulk("x", "other"), urgent("a"))

    assert next_call(line) == "a"


def test_bulk_items_fill_a_call_to_their_share_while_interactive_ones_wait():
    line = line_of(*map(bulk, "wxyz"), urgent("a"))

    assert next_call(line) == "awx"


def test_bulk_items_have_the_call_to_themselves_when_nobody_else_waits():
    line = line_of(*map(bulk, "wxyz"))

    assert next_call(line) == "wxyz"


def test_bulk_gets_every_fifth_call_while_interactive_items_keep_coming():
    line = line_of(*map(bulk, "vwxyz"), bulk_batch_size=1)
    for name in "abcdefghij":
        line.put(urgent(name, "other"))

    assert [next_call(line, 1) for _ in range(10)] == list("abcdvefghw")


def test_bulk_that_travels_with_every_call_has_no_call_of_its_own():
    line = line_of(*map(bulk, "123456"), bulk_batch_size=1)
    calls = []
    for name in "abcdef":
        line.put(urgent(name))
        calls.append(next_call(line, 2))

    assert calls == ["a1", "b2", "c3", "d4", "e5", "f6"]


def test_bulk_has_a_call_of_its_own_where_it_gets_less_than_a_fifth():
    line = line_of(*map(bulk, "123456789"), bulk_batch_size=1)
    for name in "abcdefghijklmnopqrstuvwxyz":
        line.put(urgent(name))
    calls = []
    for _ in range(6):
        for name in "ABCDE":
            line.put(urgent(name))
        calls.append(line.cut(up_to(6)).send)

    assert [sum(item.priority is BULK for item in sent) for sent in calls] == [0, 0, 0, 0, 1, 0]


def test_a_bulk_turn_is_filled_with_interactive_items_of_its_key_only():
    line = line_of(*map(bulk, "xyz"), *[urgent(name, "other") for name in "abcd"])
    for _ in range(4):
        next_call(line, 1)
    for name in "ef":
        line.put(urgent(name))

    assert next_call(line) == "xyef"
    assert next_call(line) == "efz"[2:]


def test_the_wait_for_a_bulk_turn_starts_when_bulk_is_left_behind():
    line = line_of(*[urgent(name, "other") for name in "abcdefgh"])
    for _ in range(3):
        next_call(line, 1)
    line.put(bulk("x"))

    assert [next_call(line, 1) for _ in range(6)] == list("defgxh")


def test_the_wait_for_a_bulk_turn_starts_again_after_a_call_that_took_all_bulk():
    line = line_of(*[urgent(name, "other") for name in "abc"], bulk("x", "k"), urgent("m", "k"))
    assert [next_call(line, 2) for _ in range(2)] == ["ab", "mx"]
    line.put(bulk("y", "k"))
    for name in "defgh":
        line.put(urgent(name, "other"))

    assert [next_call(line, 1) for _ in range(6)] == list("cdefyg")


def test_bulk_keys_take_turns():
    line = line_of(*[bulk(name, "k") for name in "vwx"], *[bulk(name, "other") for name in "yz"])

    assert [next_call(line, 1) for _ in range(5)] == list("vywzx")


def test_a_bulk_key_that_travels_along_does_not_keep_another_bulk_key_waiting_for_ever():
    line = line_of(*map(bulk, "123456"), bulk("x", "other"), bulk_batch_size=1)
    calls = []
    for name in "abcdef":
        line.put(urgent(name))
        calls.append(next_call(line, 2))

    assert calls == ["a1", "b2", "c3", "d4", "e5", "x"]


def test_a_bulk_key_passed_over_keeps_its_place():
    line = line_of(bulk("x", "k"), bulk("y", "other"), urgent("a", "k"))
    next_call(line, 1)

    assert next_call(line) == "x"


def test_lost_items_leave_the_line():
    line = line_of(urgent("a", deadline=5), urgent("b", deadline=50))

    plan = line.cut(lambda key: BatchLimits(9, 9, 9, inf, UNKNOWN, now=10.0))

    assert names(plan.lost) == "a"
    assert len(line) == 0


def test_a_full_line_refuses_bulk():
    line = line_of(urgent("a"), bulk("x"), max_items=2)

    with pytest.raises(QueueFullError, match="full"):
        line.put(bulk("y"))
    assert names(line.clear()) == "ax"


def test_a_full_line_gives_the_newest_bulk_place_to_an_interactive_item():
    line = line_of(bulk("x", "k"), bulk("y", "other"), urgent("a"), max_items=3)

    evicted = line.put(urgent("b"))

    assert evicted is not None
    assert evicted.name == "y"
    assert not evicted.queued
    assert len(line) == 3
    assert line.bulk_count == 1
    assert next_call(line) == "abx"


def test_a_full_line_without_bulk_refuses_an_interactive_item():
    line = line_of(urgent("a"), max_items=1)

    with pytest.raises(QueueFullError, match="full"):
        line.put(urgent("b"))


def test_a_line_with_room_evicts_nobody():
    assert line_of(bulk("x"), max_items=2).put(urgent("a")) is None


def test_an_item_that_left_makes_room():
    first = urgent("a")
    line = line_of(first, max_items=1)

    line.remove(first)

    assert line.put(bulk("b")) is None
    assert next_call(line) == "b"


def test_leaving_twice_counts_once():
    first, second = bulk("a"), bulk("b")
    line = line_of(first, second)

    line.remove(first)
    line.remove(first)

    assert len(line) == 1
    assert line.bulk_count == 1


def test_items_expire_at_their_deadline_earliest_first():
    line = line_of(urgent("a", deadline=3), bulk("b", deadline=2), urgent("c", deadline=3.5))

    assert names(line.expire(1.9)) == ""
    assert names(line.expire(3.0)) == "ba"
    assert len(line) == 1
    assert line.next_deadline() == 3.5


def test_the_next_deadline_is_that_of_an_item_still_in_line():
    early = urgent("a", deadline=1)
    line = line_of(early, urgent("b", deadline=2))

    line.remove(early)

    assert line.next_deadline() == 2


def test_an_empty_line_has_no_deadline():
    assert line_of().next_deadline() == inf


def test_items_that_left_long_before_their_deadline_are_not_kept_in_memory():
    stays = urgent("a")
    line = line_of(stays)
    left = []
    for _ in range(1000):
        item = urgent("b", deadline=1e9)
        line.put(item)
        line.remove(item)
        left.append(weakref.ref(item))
        del item

    assert sum(ref() is not None for ref in left) <= 66
    assert line.next_deadline() == inf
    assert next_call(line) == "a"


def test_deadlines_stay_in_order_when_most_items_have_left():
    rng = random.Random(3)
    items = [urgent("a", deadline=rng.random()) for _ in range(400)]
    line = line_of(*items, max_items=1000)
    for item in rng.sample(items, 330):
        line.remove(item)
    line.put(urgent("b", deadline=2))

    deadlines = [item.deadline for item in line.expire(1)]

    assert deadlines == sorted(item.deadline for item in items if item.deadline in deadlines)
    assert len(deadlines) == 70


def test_clearing_gives_everybody_back_once():
    gone = urgent("a")
    line = line_of(gone, urgent("b", deadline=1), bulk("x", "other"))
    line.remove(gone)

    assert sorted(names(line.clear())) == ["b", "x"]
    assert len(line) == 0
    assert line.clear() == []


def test_the_oldest_arrival_is_found_over_keys_and_classes():
    line = line_of(
        urgent("a", arrived_at=5), bulk("b", arrived_at=4), bulk("c", "other", arrived_at=3)
    )

    assert line.oldest_arrival() == 3
    assert line_of().oldest_arrival() is None


class LineMachine(RuleBasedStateMachine):
    """The line against a plain list of who should be in it."""

    def __init__(self):
        super().__init__()
        self.line: ItemQueue[str, Named] = ItemQueue(max_items=12, bulk_batch_size=2)
        self.present: list[Named] = []
        self.now = 0.0
        self.calls_waited: dict[Named, int] = {}

    @rule(
        key=st.sampled_from("klm"),
        priority=st.sampled_from([BULK, URGENT]),
        patience=st.integers(1, 40),
        copies=st.integers(1, 4),
    )
    def put(self, key, priority, patience, copies):
        for _ in range(copies):
            item = Named(key, self.now + patience, 1, priority, self.now)
            bulk_present = [other for other in self.present if other.priority is BULK]
            if len(self.present) < 12:
                assert self.line.put(item) is None
            elif priority is URGENT and bulk_present:
                assert self.line.put(item) is bulk_present[-1]
                self.present.remove(bulk_present[-1])
            else:
                with pytest.raises(QueueFullError, match="full"):
                    self.line.put(item)
                return
            self.present.append(item)
            self.calls_waited[item] = 0

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def leave(self, data):
        item = data.draw(st.sampled_from(self.present))
        self.line.remove(item)
        self.present.remove(item)

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds):
        self.now += seconds
        expired = self.line.expire(self.now)
        assert set(expired) == {item for item in self.present if item.deadline <= self.now}
        self.present = [item for item in self.present if item not in expired]

    @precondition(lambda self: self.present)
    @rule(max_items=st.integers(1, 5))
    def cut(self, max_items):
        plan = self.line.cut(up_to(max_items))
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
            if ahead:  # its key and class were served: the wait of the next in line starts again
                self.calls_waited[item] = 0
            # of 3 keys; bulk has a fifth of all calls; interactive waits for 2 keys and a bulk turn
            assert self.calls_waited[item] <= (15 if item.priority is BULK else 4)

    @invariant()
    def counts_agree(self):
        assert len(self.line) == len(self.present)
        assert self.line.bulk_count == sum(item.priority is BULK for item in self.present)
        assert self.line.next_deadline() == min((i.deadline for i in self.present), default=inf)
        assert self.line.oldest_arrival() == min(
            (item.arrived_at for item in self.present), default=None
        )
        assert all(item.queued for item in self.present)


TestLineMachine = LineMachine.TestCase
TestLineMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_bulk_that_is_held_back_leaves_only_when_nobody_else_waits():
    line = line_of(*map(bulk, "xyz"), *map(urgent, "abcdefg"))
    calls = [names(line.cut(up_to(1), hold_bulk=True).send) for _ in range(8)]

    assert calls == [*"abcdefg", "x"]


def test_bulk_that_is_held_back_fills_no_call():
    line = line_of(*map(bulk, "xy"), *map(urgent, "ab"))

    assert names(line.cut(up_to(9), hold_bulk=True).send) == "ab"
