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
    """A call time that is known: a straight line."""
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


def items(names, **changes):
    return [Item(name, **changes) for name in names]


def names(chosen):
    return "".join(item.name for item in chosen)


def test_everybody_travels_when_nothing_is_tight():
    plan = plan_batch(items("abc"), items("xy"), limits())

    assert names(plan.send) == "abcxy"
    assert plan.lost == []


def test_the_oldest_travel_first_up_to_the_item_limit():
    plan = plan_batch(items("abcd"), items("xy"), limits(max_items=3))

    assert names(plan.send) == "abc"
    assert plan.lost == []


def test_the_fill_takes_the_places_left_over():
    plan = plan_batch(items("ab"), items("xyz"), limits(max_items=4))

    assert names(plan.send) == "abxy"


def test_a_limit_of_nought_still_lets_one_item_through():
    assert names(plan_batch(items("ab"), items("x"), limits(max_items=0)).send) == "a"


def test_bytes_end_the_lead_at_the_first_item_that_does_not_fit():
    lead = [Item("a", size_bytes=6), Item("b", size_bytes=5), Item("c", size_bytes=1)]

    plan = plan_batch(lead, items("x", size_bytes=5), limits(max_bytes=10))

    assert names(plan.send) == "a"
    assert plan.lost == []


def test_bytes_may_be_used_up_exactly():
    assert names(plan_batch(items("ab", size_bytes=5), (), limits(max_bytes=10)).send) == "ab"


def test_bytes_end_the_fill_at_the_first_item_that_does_not_fit():
    fill = [Item("x", size_bytes=4), Item("y", size_bytes=2), Item("z", size_bytes=1)]

    plan = plan_batch(items("a", size_bytes=5), fill, limits(max_bytes=10))

    assert names(plan.send) == "ax"
    assert plan.lost == []


def test_fill_bytes_may_be_used_up_exactly():
    plan = plan_batch(items("a", size_bytes=5), items("x", size_bytes=5), limits(max_bytes=10))

    assert names(plan.send) == "ax"


def test_an_item_over_the_byte_limit_travels_alone():
    plan = plan_batch(items("ab", size_bytes=50), items("x"), limits(max_bytes=10))

    assert names(plan.send) == "a"


def test_a_fill_item_over_the_byte_limit_travels_alone_when_there_is_no_lead():
    plan = plan_batch((), items("xy", size_bytes=50), limits(max_bytes=10))

    assert names(plan.send) == "x"


@pytest.mark.parametrize(("max_call_s", "sent"), [(25, "a"), (30, "ab"), (40, "abc"), (55, "abcd")])
def test_a_call_is_cut_to_its_expected_time(max_call_s, sent):
    plan = plan_batch(
        items("abcdef"), items("x"), limits(max_call_s=max_call_s, latency=line(10, 10))
    )

    assert names(plan.send) == sent


def test_one_item_travels_however_long_its_call_takes():
    plan = plan_batch(items("ab"), (), limits(max_call_s=0.5, latency=line(2, 1)))

    assert names(plan.send) == "a"


def test_an_item_that_cannot_be_in_time_is_lost():
    lead = [Item("a", deadline=100.9), Item("b", deadline=105)]

    plan = plan_batch(lead, (), limits(now=100, latency=line(1, 0)))

    assert names(plan.send) == "b"
    assert names(plan.lost) == "a"


def test_an_item_that_is_just_in_time_travels():
    assert names(
        plan_batch([Item("a", deadline=101)], (), limits(now=100, latency=line(1, 0))).send
    )


def test_all_are_lost_when_the_shortest_call_is_too_long():
    plan = plan_batch(
        items("abc", deadline=0.9), items("xy", deadline=0.9), limits(latency=line(1, 0))
    )

    assert plan.send == []
    assert names(plan.lost) == "abcxy"


def test_a_call_shrinks_until_those_on_board_are_in_time():
    plan = plan_batch(items("abcdef", deadline=4), (), limits(latency=line(1, 1)))

    assert names(plan.send) == "abc"
    assert plan.lost == []


def test_the_few_oldest_are_given_up_for_the_many():
    lead = [*items("ab", deadline=2), *items("cdefg", deadline=6)]

    plan = plan_batch(lead, (), limits(latency=line(1, 1)))

    assert names(plan.send) == "cdefg"
    assert names(plan.lost) == "ab"


def test_those_behind_the_last_on_board_stay_in_line():
    lead = [*items("abc", deadline=4), *items("de", deadline=0.5)]

    plan = plan_batch(lead, (), limits(latency=line(1, 1), max_items=3))

    assert names(plan.send) == "abc"
    assert plan.lost == []


def test_fill_shares_the_bytes_with_a_lead_that_left_somebody_in_line():
    lead = [Item("a", size_bytes=6), Item("b", deadline=1.5)]
    fill = [Item("x", size_bytes=4), Item("y")]

    plan = plan_batch(lead, fill, limits(latency=line(0.0, 1.0), max_bytes=10))

    assert names(plan.send) == "ax"
    assert plan.lost == []


def test_fill_has_the_bytes_that_were_too_few_for_the_lead():
    lead = [Item("a", size_bytes=6), Item("b", size_bytes=5)]

    plan = plan_batch(lead, [Item("x", size_bytes=4), Item("y")], limits(max_bytes=10))

    assert names(plan.send) == "ax"


def test_fill_stops_before_it_makes_the_lead_late():
    plan = plan_batch(items("ab", deadline=5), items("xyz"), limits(latency=line(1, 1)))

    assert names(plan.send) == "abxy"
    assert plan.lost == []


def test_fill_heeds_the_tightest_of_the_lead():
    lead = [Item("a"), Item("b", deadline=4), Item("c")]

    assert names(plan_batch(lead, items("xyz"), limits(latency=line(1, 1))).send) == "abc"


def test_fill_stops_before_it_makes_other_fill_late():
    fill = [Item("x", deadline=3), Item("y")]

    plan = plan_batch(items("a"), fill, limits(latency=line(1, 1)))

    assert names(plan.send) == "ax"


def test_fill_that_cannot_be_in_time_is_lost_and_makes_room():
    fill = [Item("x", deadline=2.5), Item("y")]

    plan = plan_batch(items("a"), fill, limits(latency=line(1, 1)))

    assert names(plan.send) == "ay"
    assert names(plan.lost) == "x"


def test_fill_may_travel_when_the_whole_lead_is_lost():
    plan = plan_batch(items("a", deadline=1), items("xy"), limits(latency=line(1, 1), max_items=1))

    assert names(plan.send) == "x"
    assert names(plan.lost) == "a"


CROWD = st.lists(
    st.builds(
        Item,
        name=st.just("i"),
        deadline=st.floats(0, 8),
        size_bytes=st.integers(0, 9),
    ),
    max_size=14,
)
BOUNDS = st.builds(
    BatchLimits,
    max_items=st.integers(1, 8),
    max_bytes=st.integers(1, 30),
    max_call_s=st.floats(0, 6),
    latency=st.builds(line, st.floats(0, 2), st.floats(0, 1)),
    now=st.floats(0, 2),
)


@given(CROWD, CROWD, BOUNDS)
def test_a_plan_keeps_every_limit_and_the_order(lead, fill, bounds):
    plan = plan_batch(lead, fill, bounds)

    n = len(plan.send)
    expected_s = bounds.latency.seconds(n)
    everybody = [id(item) for item in [*lead, *fill]]
    assert n <= bounds.max_items
    assert n <= 1 or sum(item.size_bytes for item in plan.send) <= bounds.max_bytes
    assert n <= 1 or expected_s <= bounds.max_call_s
    assert all(bounds.now + expected_s <= item.deadline for item in plan.send)
    for chosen in (plan.send, plan.lost):
        places = [everybody.index(id(item)) for item in chosen]
        assert places == sorted(places)
    assert not {id(item) for item in plan.send} & {id(item) for item in plan.lost}
    assert plan.send or plan.lost or not (lead or fill)


@given(CROWD, BOUNDS)
def test_a_lost_item_could_not_have_joined_the_call_and_nobody_in_front_is_left_over(lead, bounds):
    plan = plan_batch(lead, (), bounds)

    decided = {id(item) for item in [*plan.send, *plan.lost]}
    last = max((i for i, item in enumerate(lead) if id(item) in decided), default=-1)
    assert all(id(item) in decided for item in lead[: last + 1])
    one_s = bounds.latency.seconds(1)
    alone = [item for item in plan.lost if item.deadline >= bounds.now + one_s]
    assert plan.send or not alone
