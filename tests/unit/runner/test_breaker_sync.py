import pickle

import pytest

from runner.breaker import Permit, Refusal
from runner.breaker_board import Command
from runner.breaker_sync import (
    MAX_REPLICAS,
    MAX_REPORTS,
    Report,
    SyncReply,
    SyncRequest,
)
from runner.types import BreakerState
from tests.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    NOW,
    SUCCESS,
    ask,
    entry_of,
    make_replica,
    make_shared,
    met,
    permit_of,
    sync,
    tell,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN
HALF_OPEN = BreakerState.HALF_OPEN


class TestSync:
    def test_failures_seen_by_several_replicas_open_the_breaker_for_all(self):
        shared = make_shared()
        one, two = met(shared, "r1", "r2")

        tell(one, FAILURE, NOW, times=2)
        tell(two, FAILURE, NOW, times=1)
        for replica in (one, two, one):
            sync(replica, shared, NOW + 0.25)

        assert [r.state("m", NOW + 0.25) for r in (one, two)] == [OPEN, OPEN]
        assert one.retry_in_s("m", NOW + 0.25) == two.retry_in_s("m", NOW + 0.25) == 100.0

    def test_a_replica_that_opened_on_its_own_is_closed_again_if_the_others_do_well(self):
        shared = make_shared()
        one, two = met(shared, "r1", "r2")
        tell(one, FAILURE, NOW, times=2)
        sync(one, shared, NOW)
        tell(two, SUCCESS, NOW)
        sync(two, shared, NOW)

        tell(one, FAILURE, NOW)
        alone = one.state("m", NOW)
        sync(one, shared, NOW)

        assert (alone, one.state("m", NOW)) == (OPEN, CLOSED)

    def test_what_is_confirmed_is_not_sent_again(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")

        tell(replica, FAILURE, NOW)
        before = replica.news()
        sync(replica, shared, NOW)

        assert [r.number for r in before.reports] == [1]
        assert replica.news() == SyncRequest("r1", epoch=1000, last_number=1)

    def test_a_report_is_counted_once_although_its_answer_was_lost(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")
        tell(replica, FAILURE, NOW)

        shared.sync(replica.news(), NOW)
        tell(replica, FAILURE, NOW)
        sync(replica, shared, NOW)

        assert entry_of(shared)["consecutive"] == 2

    def test_a_request_that_was_overtaken_by_a_later_one_counts_nothing(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")
        tell(replica, FAILURE, NOW)
        early = replica.news()
        tell(replica, SUCCESS, NOW)

        sync(replica, shared, NOW)
        shared.sync(early, NOW)
        tell(replica, FAILURE, NOW)
        sync(replica, shared, NOW)

        assert entry_of(shared)["consecutive"] == 1

    def test_the_same_numbers_of_two_replicas_are_two_reports(self):
        shared = make_shared()
        one, two = met(shared, "r1", "r2")

        for replica in (one, two):
            tell(replica, FAILURE, NOW)
            sync(replica, shared, NOW)

        assert entry_of(shared)["consecutive"] == 2

    def test_results_that_came_in_during_a_sync_survive_its_answer(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")
        tell(replica, FAILURE, NOW)

        reply = shared.sync(replica.news(), NOW)
        tell(replica, FAILURE, NOW, times=2)
        replica.receive(reply, NOW)

        assert replica.state("m", NOW) is OPEN
        assert [r.number for r in replica.news().reports] == [2, 3]

    def test_results_for_a_name_the_answer_lacks_are_not_counted_twice(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")

        reply = shared.sync(replica.news(), NOW)
        tell(replica, FAILURE, NOW, times=2)
        replica.receive(reply, NOW)

        assert replica.state("m", NOW) is CLOSED

    def test_an_answer_that_was_overtaken_is_dropped(self):
        shared = make_shared()
        one, two = met(shared, "r1", "r2")
        tell(two, SUCCESS, NOW)
        sync(two, shared, NOW)
        early = shared.sync(one.news(), NOW)
        tell(two, FAILURE, NOW, times=3)
        sync(two, shared, NOW)
        sync(one, shared, NOW)

        accepted = one.receive(early, NOW)

        assert accepted
        assert one.state("m", NOW) is OPEN

    def test_versions_rise_with_every_answer(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")

        replies = [shared.sync(replica.news(), NOW), shared.acquire("m", replica.news(), NOW)]

        assert [r.version for r in replies] == [2, 3]
        assert [r.answer for r in replies] == [None, Permit(0)]

    def test_unconfirmed_results_are_bounded_and_the_oldest_go_first(self):
        replica = make_replica(consecutive_failures=9999)

        tell(replica, FAILURE, NOW, times=MAX_REPORTS + 5)

        news = replica.news()
        assert MAX_REPORTS == 1024
        assert [r.number for r in news.reports] == list(range(6, MAX_REPORTS + 6))
        assert news.last_number == MAX_REPORTS + 5

    def test_the_memory_of_replicas_is_bounded_and_the_longest_silent_goes_first(self):
        shared = make_shared(consecutive_failures=99)
        first, second = met(shared, "first", "second")
        for replica in (first, second):
            tell(replica, FAILURE, NOW)
            shared.sync(replica.news(), NOW)
        shared.sync(first.news(), NOW)

        for n in range(MAX_REPLICAS - 1):
            shared.sync(SyncRequest(f"x{n}", 1000, 0), NOW)
        for replica in (first, second):
            shared.sync(replica.news(), NOW)

        assert MAX_REPLICAS == 1024
        assert (
            entry_of(shared)["consecutive"] == 3
        )  # only the second's was forgotten, and recounted

    @pytest.mark.parametrize(
        ("command", "state"),
        [("force_open", "forced_open"), ("force_close", "forced_closed"), ("reset", "closed")],
    )
    def test_a_command_reaches_every_replica_with_its_next_sync(self, command, state):
        shared = make_shared()
        replicas = met(shared, "r1", "r2")
        tell(replicas[0], FAILURE, NOW, times=3)
        sync(replicas[0], shared, NOW)

        shared.command("m", Command(command), NOW)
        for replica in replicas:
            sync(replica, shared, NOW)

        assert [r.state("m", NOW) for r in replicas] == [state, state]

    def test_commands_are_numbered_upwards_from_the_epoch(self):
        shared = make_shared(epoch=5000)

        shared.command("m", Command.FORCE_OPEN, NOW)
        first = entry_of(shared)["command"]
        shared.command("m", Command.RESET, NOW)

        assert (first, entry_of(shared)["command"]) == (5001, 5002)


class TestProbes:
    def half_open(self, *names, **changes):
        """A shared board and replicas, all half open at ``NOW``."""
        shared = make_shared(**changes)
        replicas = met(shared, *names, now=NOW - 100, **changes)
        tell(replicas[0], FAILURE, NOW - 100, times=3)
        for replica in replicas:
            sync(replica, shared, NOW - 100)
        return shared, replicas

    def test_the_copy_decides_everything_but_a_probe(self):
        _, (replica,) = self.half_open("r1")

        answers = [replica.acquire("m", NOW - 1), replica.acquire("m", NOW)]

        assert answers == [Refusal(1.0), None]

    def test_only_one_of_two_replicas_gets_the_probe(self):
        shared, (one, two) = self.half_open("r1", "r2")

        answers = [ask(one, shared, NOW), ask(two, shared, NOW + 1)]

        assert answers == [Permit(2, "shared1000-1"), Refusal(4.0)]

    def test_a_copy_that_knows_the_probe_is_out_refuses_without_asking(self):
        shared, (one, two) = self.half_open("r1", "r2")
        ask(one, shared, NOW)

        sync(two, shared, NOW)

        assert one.acquire("m", NOW + 1) == two.acquire("m", NOW + 1) == Refusal(4.0)

    def test_a_good_probe_closes_for_its_replica_at_once_and_for_others_by_sync(self):
        shared, (one, two) = self.half_open("r1", "r2")
        probe = permit_of(ask(one, shared, NOW))

        one.record("m", probe, SUCCESS, FAST_S, NOW)
        at_once = one.state("m", NOW), two.state("m", NOW)
        sync(one, shared, NOW)
        sync(two, shared, NOW)

        assert at_once == (CLOSED, HALF_OPEN)
        assert two.state("m", NOW) is CLOSED

    def test_results_after_a_good_probe_count_although_they_travel_with_it(self):
        shared, (one,) = self.half_open("r1")
        one.record("m", permit_of(ask(one, shared, NOW)), SUCCESS, FAST_S, NOW)

        tell(one, FAILURE, NOW, times=2)
        sync(one, shared, NOW)

        assert entry_of(shared)["state"] == "closed"
        assert entry_of(shared)["consecutive"] == 2

    def test_asking_for_a_probe_brings_news_along(self):
        shared, (one,) = self.half_open("r1")
        first = permit_of(ask(one, shared, NOW))
        one.record("m", first, IGNORED, FAST_S, NOW)

        second = ask(one, shared, NOW)

        assert second == Permit(2, "shared1000-2")
        assert one.news().reports == ()

    def test_asking_a_board_that_was_closed_meanwhile_gives_an_ordinary_permit(self):
        shared, (one, two) = self.half_open("r1", "r2")
        one.record("m", permit_of(ask(one, shared, NOW)), SUCCESS, FAST_S, NOW)
        sync(one, shared, NOW)

        answer = ask(two, shared, NOW)

        assert answer == Permit(3)
        assert two.state("m", NOW) is CLOSED

    def test_a_new_shared_board_gives_no_probe_before_it_heard_what_holds(self):
        _, (one,) = self.half_open("r1")
        newborn = make_shared(epoch=2000)

        answer = ask(one, newborn, NOW)

        assert answer is None
        assert newborn.status(NOW) == {}

    def test_a_shared_board_that_asks_what_holds_says_who_it_is(self):
        _, (one,) = self.half_open("r1")
        newborn = make_shared(epoch=2000)

        replies = newborn.sync(one.news(), NOW), newborn.acquire("m", one.news(), NOW)

        assert [(reply.epoch, reply.entries) for reply in replies] == [(2000, None)] * 2

    def test_a_command_is_obeyed_while_a_probe_is_out(self):
        shared, (one,) = self.half_open("r1")
        permit_of(ask(one, shared, NOW))

        assert shared.command("m", Command.RESET, NOW) is CLOSED

    def test_a_command_is_evidence_from_when_it_was_given(self):
        shared = make_shared()

        shared.command("m", Command.FORCE_OPEN, NOW)

        assert shared.status(NOW + 3)["m"]["evidence_age_s"] == 3.0


@pytest.mark.parametrize(
    "value",
    [
        Report(1, "m", Permit(0), FAILURE, 0.5),
        SyncRequest("r1", 1000, 1, (Report(1, "m", Permit(2, "x-1"), SUCCESS, 0.5),)),
        SyncReply(1000, 1, 1, {}, Refusal(1.0)),
    ],
)
def test_messages_cross_processes_unchanged(value):
    assert pickle.loads(pickle.dumps(value)) == value
