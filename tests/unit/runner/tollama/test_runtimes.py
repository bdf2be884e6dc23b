from collections import Counter

import pytest

from runner.tollama.runtimes import ReplicaRank, Runtimes


def make_runtimes(count=2, rank=0, replicas=1):
    return Runtimes(count, lambda: ReplicaRank(rank, replicas))


def chosen_in_turn(runtimes, usable):
    return {runtimes.choose(usable, lambda _: 0) for _ in usable}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 8])
def test_replicas_are_spread_evenly_and_leave_no_runtime_without_one(count, replicas):
    places = [make_runtimes(count, rank, replicas) for rank in range(replicas)]

    owners = Counter(one for place in places for one in chosen_in_turn(place, range(count)))
    assert set(owners) == set(range(count))
    assert max(owners.values()) - min(owners.values()) <= 1


def test_rank_beyond_the_known_number_of_replicas_still_has_runtimes():
    assert chosen_in_turn(make_runtimes(4, rank=7, replicas=2), range(4)) == {1, 3}


def test_queue_of_a_single_runtime_has_the_name_of_the_model():
    assert make_runtimes(1).queue_names("m") == ("m",)
    assert make_runtimes(2).queue_names("m") == ("m@1", "m@2")


def test_single_runtime_is_chosen_without_the_rank():
    runtimes = Runtimes(1, lambda: pytest.fail("asked"))

    assert runtimes.choose([0], lambda _: 0) == 0
    assert runtimes.choose([], lambda _: 0) is None
    assert make_runtimes(2).choose([], lambda _: 0) is None


def test_own_runtime_is_chosen_before_an_idle_other_one_if_it_is_usable():
    runtimes = make_runtimes(3, rank=1, replicas=3)

    assert runtimes.choose([0, 1, 2], lambda r: 9 * r) == 1
    assert runtimes.choose([0, 2], lambda r: 9 * r) == 0


def test_new_rank_of_a_replica_applies_to_the_next_item():
    ranks = iter([0, 1])
    runtimes = Runtimes(2, lambda: ReplicaRank(next(ranks), 2))

    assert [runtimes.choose([0, 1], lambda _: 0) for _ in range(2)] == [0, 1]
