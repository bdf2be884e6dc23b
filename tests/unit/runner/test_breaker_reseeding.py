import pytest

from runner.breaker import Permit, Refusal
from runner.breaker_board import Command
from runner.breaker_sync import (
    NO_EPOCH,
    SyncReply,
)
from runner.types import BreakerState
from tests.breakers import (
    FAILURE,
    FAST_S,
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


def opened_together_closed_alone():
    """The shared board still holds open what its one replica closed without it at NOW + 101."""
    shared = make_shared()
    (replica,) = met(shared, "r1")
    tell(replica, FAILURE, NOW, times=3)
    sync(replica, shared, NOW)
    probe = permit_of(replica.acquire_alone("m", NOW + 100))
    replica.record("m", probe, SUCCESS, FAST_S, NOW + 101)
    return shared, replica


class TestAlone:
    def test_a_replica_alone_opens_probes_and_closes_by_itself(self):
        replica = make_replica()
        tell(replica, FAILURE, NOW, times=3)

        refused = replica.acquire_alone("m", NOW)
        probe = permit_of(replica.acquire_alone("m", NOW + 100))
        second = replica.acquire_alone("m", NOW + 100)
        replica.record("m", probe, SUCCESS, FAST_S, NOW + 101)

        assert (refused, probe, second) == (Refusal(100.0), Permit(2, "r1-1"), Refusal(5.0))
        assert replica.state("m", NOW + 101) is CLOSED

    def test_what_a_replica_found_out_alone_is_merged_not_overwritten(self):
        shared, replica = opened_together_closed_alone()

        sync(replica, shared, NOW + 101)

        assert entry_of(shared, NOW + 101)["state"] == "closed"
        assert replica.state("m", NOW + 101) is CLOSED

    @pytest.mark.parametrize("sent", ["news", "everything"])
    def test_an_answer_to_what_was_sent_before_a_probe_alone_overwrites_nothing(self, sent):
        shared = make_shared()
        (replica,) = met(shared, "r1")
        tell(replica, FAILURE, NOW, times=3)
        sync(replica, shared, NOW)
        request = replica.news() if sent == "news" else replica.everything(NOW + 100)
        under_way = shared.sync(request, NOW + 100)

        probe = permit_of(replica.acquire_alone("m", NOW + 100))
        replica.record("m", probe, SUCCESS, FAST_S, NOW + 101)
        replica.receive(under_way, NOW + 101)
        before = replica.state("m", NOW + 101)
        sync(replica, shared, NOW + 101)

        assert before is CLOSED
        assert entry_of(shared, NOW + 101)["state"] == "closed"
        assert replica.news().reports == ()

    def test_a_replica_that_probed_alone_knows_no_shared_board_until_it_was_heard(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")
        tell(replica, FAILURE, NOW, times=3)
        sync(replica, shared, NOW)

        replica.acquire_alone("m", NOW + 100)
        stranger = replica.news().epoch
        sync(replica, shared, NOW + 101)
        acquainted = replica.news().epoch

        assert (stranger, acquainted) == (NO_EPOCH, 1000)

    def test_a_replica_that_probed_alone_once_is_heard_ever_after(self):
        shared, replica = opened_together_closed_alone()
        sync(replica, shared, NOW + 101)

        tell(replica, FAILURE, NOW + 102)
        sync(replica, shared, NOW + 102)

        assert replica.news().reports == ()

    def test_after_a_second_probe_alone_answers_from_between_are_out_of_date(self):
        shared = make_shared()
        replica = make_replica()
        tell(replica, FAILURE, NOW, times=3)
        replica.acquire_alone("m", NOW + 100)
        under_way = shared.sync(replica.everything(NOW + 101), NOW + 101)

        second = permit_of(replica.acquire_alone("m", NOW + 105))
        replica.receive(under_way, NOW + 105)
        replica.record("m", second, SUCCESS, FAST_S, NOW + 105)

        assert replica.state("m", NOW + 105) is CLOSED

    def test_a_decision_alone_that_took_no_probe_keeps_the_acquaintance(self):
        shared = make_shared()
        (replica,) = met(shared, "r1")

        replica.acquire_alone("m", NOW)
        tell(replica, FAILURE, NOW, times=3)
        replica.acquire_alone("m", NOW)

        assert replica.news().epoch == 1000


class TestReseeding:
    def test_a_stranger_is_asked_for_everything_and_changes_nothing_before(self):
        shared = make_shared()
        replica = make_replica()
        tell(replica, FAILURE, NOW)

        reply = shared.sync(replica.news(), NOW)

        assert replica.news().epoch == NO_EPOCH == 0
        assert reply == SyncReply(epoch=1000)
        assert not replica.receive(reply, NOW)
        assert shared.status(NOW) == {}

    def test_an_actor_that_lost_its_state_learns_it_from_the_replicas(self):
        old = make_shared()
        one, two = met(old, "r1", "r2")
        tell(one, FAILURE, NOW, times=3)
        sync(one, old, NOW)
        sync(two, old, NOW)

        new = make_shared(epoch=2000)
        sync(two, new, NOW + 10)

        assert entry_of(new, NOW + 10)["state"] == "open"
        assert entry_of(new, NOW + 10)["retry_in_s"] == 90.0

    def test_what_was_merged_is_not_counted_again_as_reports(self):
        new = make_shared(epoch=2000)
        replica = make_replica()
        tell(replica, FAILURE, NOW, times=2)

        sync(replica, new, NOW)
        sync(replica, new, NOW)

        assert entry_of(new)["consecutive"] == 2
        assert replica.news().reports == ()

    def test_everything_is_the_whole_board_up_to_the_newest_result(self):
        replica = make_replica()
        tell(replica, FAILURE, NOW, times=2)

        told = replica.everything(NOW)

        assert (told.replica, told.epoch, told.last_number, told.reports) == ("r1", 0, 2, ())
        assert told.known is not None
        assert told.known["m"]["consecutive"] == 2

    def test_results_that_came_in_during_the_merge_survive_it(self):
        new = make_shared(epoch=2000)
        replica = make_replica()
        tell(replica, FAILURE, NOW)

        reply = new.sync(replica.everything(NOW), NOW)
        tell(replica, FAILURE, NOW)
        replica.receive(reply, NOW)
        tell(replica, FAILURE, NOW)

        assert replica.state("m", NOW) is OPEN
        assert [r.number for r in replica.news().reports] == [2, 3]

    def test_versions_of_a_new_life_start_over(self):
        old, new = make_shared(), make_shared(epoch=2000)
        (replica,) = met(old, "r1")
        for _ in range(5):
            sync(replica, old, NOW)

        new.command("m", Command.FORCE_OPEN, NOW)
        sync(replica, new, NOW)

        assert replica.state("m", NOW) is BreakerState.FORCED_OPEN
        assert replica.news().epoch == 2000

    def test_a_command_survives_the_actor_that_took_it(self):
        old = make_shared()
        one, late = met(old, "r1", "r2")
        old.command("m", Command.FORCE_CLOSE, NOW)
        sync(one, old, NOW)
        tell(late, FAILURE, NOW + 5, times=3)  # opened, and never heard of the command

        new = make_shared(epoch=2000)
        for replica in (late, one, late):
            sync(replica, new, NOW + 10)

        assert late.state("m", NOW + 10) is BreakerState.FORCED_CLOSED

    def test_a_command_to_a_newborn_actor_outranks_those_of_earlier_lives(self):
        old = make_shared()
        (one,) = met(old, "r1")
        old.command("m", Command.FORCE_OPEN, NOW)
        old.command("m", Command.FORCE_OPEN, NOW)
        sync(one, old, NOW)

        new = make_shared(epoch=2000)
        new.command("m", Command.RESET, NOW)
        sync(one, new, NOW)

        assert one.state("m", NOW) is CLOSED

    def test_a_probe_handed_out_by_the_lost_actor_still_blocks_a_second_one(self):
        old = make_shared()
        one, two = met(old, "r1", "r2", now=NOW)
        tell(one, FAILURE, NOW, times=3)
        sync(one, old, NOW)
        sync(two, old, NOW)
        ask(one, old, NOW + 100)

        new = make_shared(epoch=2000)
        sync(one, new, NOW + 101)
        sync(two, new, NOW + 101)

        assert two.acquire("m", NOW + 101) == Refusal(4.0)
