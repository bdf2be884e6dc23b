import re
from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batching.batch_policy import BatchLimits, plan_batch
from runner.batching.latency_model import UNKNOWN, CallLatency


@dataclass(frozen=True)
class Item:
    name: str
    deadline: float = inf
    size_bytes: int = 1


def line(fixed_s, per_item_s):
    """A call of n items takes ``fixed_s + n * per_item_s``."""
    return CallLatency(10, fixed_s + 10 * per_item_s, per_item_s, per_item_s)


def limits(**changes):
    values: dict[str, Any] = {
        "max_items": 100,
        "max_bulk": 100,
        "max_bytes": 1000,
        "max_call_s": 1e9,
        "latency": UNKNOWN,
        "now": 0.0,
    }
    return BatchLimits(**(values | changes))


def items(text):
    """Items as ``name:size_bytes@deadline``, each part but the name optional."""
    found = re.findall(r"(\w)(?::(\d+))?(?:@([\d.]+))?", text)
    return [Item(name, float(due or inf), int(size or 1)) for name, size, due in found]


def names(chosen):
    return "".join(item.name for item in chosen)


SLOW = line(1, 1)  # n items take 1 + n seconds
ONE_SECOND = line(1, 0)
TENS = line(10, 10)

PLANS = {
    "all items without a limit": ("a b c", "x y", {}, "abcxy", ""),
    "oldest items up to the item limit": ("a b c d", "x y", {"max_items": 3}, "abc", ""),
    "fill in the remaining places": ("a b", "x y z", {"max_items": 4}, "abxy", ""),
    "one item with an item limit of 0": ("a b", "x", {"max_items": 0}, "a", ""),
    "call time of one item": ("a b c d", "x", {"max_call_s": 25, "latency": TENS}, "a", ""),
    "call time just reached": ("a b c d", "x", {"max_call_s": 30, "latency": TENS}, "ab", ""),
    "one item over the call time": ("a b", "", {"max_call_s": 0.5, "latency": TENS}, "a", ""),
    "bytes end the main items": ("a:4 b:4 c:4 d", "x:5", {"max_bytes": 10}, "ab", ""),
    "bytes just reached": ("a:5 b:5", "", {"max_bytes": 10}, "ab", ""),
    "bytes end the fill": ("a:5", "x:4 y:2 z", {"max_bytes": 10}, "ax", ""),
    "bytes just reached by the fill": ("a:5", "x:5", {"max_bytes": 10}, "ax", ""),
    "bytes too few for a main item go to the fill": (
        "a:6 b:5",
        "x:4 y",
        {"max_bytes": 10},
        "ax",
        "",
    ),
    "fill counts the bytes of the main items": (
        "a:6 b@1.5",
        "x:4 y",
        {"latency": line(0, 1), "max_bytes": 10},
        "ax",
        "",
    ),
    "item over the byte limit alone": ("a:50 b:50", "x", {"max_bytes": 10}, "a", ""),
    "fill item over the byte limit alone": ("", "x:50 y:50", {"max_bytes": 10}, "x", ""),
    "late item is lost": ("a@100.9 b@101", "", {"now": 100, "latency": ONE_SECOND}, "b", "a"),
    "all late": ("a@0.9 b@0.9", "x@0.9 y@0.9", {"latency": ONE_SECOND}, "", "abxy"),
    "largest call in time": ("a@4 b@4 c@4 d@4 e@4", "", {"latency": SLOW}, "abc", ""),
    "few old items are lost for many": (
        "a@2 b@2 c@6 d@6 e@6 f@6 g@6",
        "",
        {"latency": SLOW},
        "cdefg",
        "ab",
    ),
    "items behind the last one stay": (
        "a@4 b@4 c@4 d@0.5 e@0.5",
        "",
        {"latency": SLOW, "max_items": 3},
        "abc",
        "",
    ),
    "fill keeps the main items in time": ("a@5 b@5", "x y z", {"latency": SLOW}, "abxy", ""),
    "fill keeps the tightest main item in time": ("a b@4 c", "x y", {"latency": SLOW}, "abc", ""),
    "fill keeps other fill in time": ("a", "x@3 y", {"latency": SLOW}, "ax", ""),
    "late fill is lost": ("a", "x@2.5 y", {"latency": SLOW}, "ay", "x"),
    "fill is sent when all main items are lost": (
        "a@1",
        "x y",
        {"latency": SLOW, "max_items": 1},
        "x",
        "a",
    ),
}


@pytest.mark.parametrize(
    ("main", "fill", "changes", "sent", "lost"), PLANS.values(), ids=PLANS.keys()
)
def test_the_next_call_by_example(main, fill, changes, sent, lost):
    plan = plan_batch(items(main), items(fill), limits(**changes))

    assert (names(plan.send), names(plan.lost)) == (sent, lost)


ITEMS = st.lists(
    st.builds(
        Item,
        name=st.just("i"),
        deadline=st.floats(0, 8),
        size_bytes=st.integers(0, 9),
    ),
    max_size=14,
)
LIMITS = st.builds(
    BatchLimits,
    max_items=st.integers(1, 8),
    max_bytes=st.integers(1, 30),
    max_call_s=st.floats(0, 6),
    latency=st.builds(line, st.floats(0, 2), st.floats(0, 1)),
    now=st.floats(0, 2),
)


@given(ITEMS, ITEMS, LIMITS)
def test_a_plan_keeps_every_limit_and_the_order(main, fill, bounds):
    plan = plan_batch(main, fill, bounds)

    n = len(plan.send)
    expected_s = bounds.latency.seconds(n)
    arrived = [id(item) for item in [*main, *fill]]
    assert n <= bounds.max_items
    assert n <= 1 or sum(item.size_bytes for item in plan.send) <= bounds.max_bytes
    assert n <= 1 or expected_s <= bounds.max_call_s
    assert all(bounds.now + expected_s <= item.deadline for item in plan.send)
    for chosen in (plan.send, plan.lost):
        places = [arrived.index(id(item)) for item in chosen]
        assert places == sorted(places)
    assert not {id(item) for item in plan.send} & {id(item) for item in plan.lost}
    assert plan.send or plan.lost or not (main or fill)


@given(ITEMS, LIMITS)
def test_an_item_is_lost_only_if_it_is_late_and_no_item_is_skipped(main, bounds):
    plan = plan_batch(main, (), bounds)

    decided = {id(item) for item in [*plan.send, *plan.lost]}
    last = max((i for i, item in enumerate(main) if id(item) in decided), default=-1)
    assert all(id(item) in decided for item in main[: last + 1])
    one_s = bounds.latency.seconds(1)
    alone = [item for item in plan.lost if item.deadline >= bounds.now + one_s]
    assert plan.send or not alone
