import json

import pytest

from runner.breaker import Permit, Refusal
from runner.breaker_board import BreakerBoard, Command
from runner.types import BreakerState
from tests.breakers import (
    FAILURE,
    FAST_S,
    IGNORED,
    SUCCESS,
    call_on,
    fail,
    make_board,
    permit_of,
)

CLOSED = BreakerState.CLOSED
OPEN = BreakerState.OPEN

NOW = 1000.0


class TestNames:
    def test_each_name_has_a_breaker_of_its_own(self):
        board = make_board()

        fail(board, "chronos2", NOW)

        assert (board.state("chronos2", NOW), board.state("sundial", NOW)) == (OPEN, CLOSED)

    def test_asking_about_a_name_does_not_create_it(self):
        board = make_board()

        answers = board.state("chronos2", NOW), board.retry_in_s("chronos2", NOW)

        assert answers == (CLOSED, 0.0)
        assert board.snapshot(NOW) == {}

    def test_retry_in_is_that_of_the_name(self):
        board = make_board()

        fail(board, "chronos2", NOW)

        assert board.retry_in_s("chronos2", NOW + 1) == 99.0
        assert board.acquire("chronos2", NOW + 1) == Refusal(99.0)

    @pytest.mark.parametrize(
        ("command", "state"),
        [
            (Command.FORCE_OPEN, BreakerState.FORCED_OPEN),
            (Command.FORCE_CLOSE, BreakerState.FORCED_CLOSED),
            (Command.RESET, CLOSED),
        ],
    )
    def test_a_command_reaches_the_name_and_leaves_its_number(self, command, state):
        board = make_board()
        fail(board, "chronos2", NOW)

        board.command("chronos2", command, 5, NOW)

        assert board.state("chronos2", NOW) is state
        assert board.snapshot(NOW)["chronos2"]["command"] == 5
        assert board.snapshot(NOW + 3)["chronos2"]["evidence_age_s"] == 3.0

    def test_leases_of_one_board_never_share_a_name(self):
        board = make_board(owner="r7")
        for name in ("a", "b"):
            fail(board, name, NOW)

        probes = [board.acquire(name, NOW + 100) for name in ("a", "b")]

        assert probes == [Permit(2, "r7-1"), Permit(2, "r7-2")]


class TestAdopt:
    def test_takes_over_every_name_of_the_snapshot_and_leaves_others_alone(self):
        here, there = make_board(), make_board()
        fail(here, "mine", NOW)
        fail(here, "both", NOW)
        fail(there, "theirs", 0.0)
        call_on(there, "both", SUCCESS, 0.0)

        here.adopt(json.loads(json.dumps(there.snapshot(0.0))), NOW)

        assert [here.state(n, NOW) for n in ("mine", "both", "theirs")] == [OPEN, CLOSED, OPEN]


def opened_at(now: float, **changes) -> BreakerBoard:
    board = make_board(**changes)
    fail(board, "m", now)
    return board


def recovered_at(now: float, **changes) -> BreakerBoard:
    board = opened_at(now - 100, **changes)
    call_on(board, "m", SUCCESS, now)
    return board


def commanded_at(now: float, command: Command, number: int, **changes) -> BreakerBoard:
    board = make_board(**changes)
    board.command("m", command, number, now)
    return board


def counting(failures: int, successes: int = 0, now: float = NOW) -> BreakerBoard:
    board = make_board(consecutive_failures=99)
    for outcome in [SUCCESS] * successes + [FAILURE] * failures:
        call_on(board, "m", outcome, now)
    return board


def merged(ours: BreakerBoard, theirs: BreakerBoard, now: float = NOW) -> dict:
    ours.merge(json.loads(json.dumps(theirs.snapshot(now))), now)
    return dict(ours.snapshot(now)["m"])


class TestMerge:
    def test_an_empty_board_takes_what_it_is_told(self):
        theirs = opened_at(NOW - 10)

        assert merged(make_board(), theirs) == theirs.snapshot(NOW)["m"]

    def test_failures_in_a_row_that_left_the_window_are_taken_too(self):
        theirs = counting(failures=2, now=NOW - 70)

        assert merged(make_board(), theirs)["consecutive"] == 2

    def test_a_board_keeps_what_the_other_does_not_know(self):
        ours = opened_at(NOW - 10)

        ours.merge({}, NOW)

        assert ours.state("m", NOW) is OPEN

    @pytest.mark.parametrize("swap", [False, True])
    @pytest.mark.parametrize(
        ("loser", "winner", "state"),
        [
            pytest.param(
                lambda: opened_at(NOW - 1),
                lambda: commanded_at(NOW - 500, Command.FORCE_CLOSE, 1),
                "forced_closed",
                id="a command beats every result",
            ),
            pytest.param(
                lambda: commanded_at(NOW - 5, Command.FORCE_OPEN, 8),
                lambda: commanded_at(NOW - 9, Command.RESET, 9),
                "closed",
                id="a later command beats an earlier one",
            ),
            pytest.param(
                lambda: recovered_at(NOW - 50),
                lambda: opened_at(NOW - 10),
                "open",
                id="a fresh outage beats an old recovery of a higher generation",
            ),
            pytest.param(
                lambda: opened_at(NOW - 60),
                lambda: recovered_at(NOW - 2),
                "closed",
                id="a fresh recovery beats an old outage",
            ),
            pytest.param(
                lambda: opened_at(NOW - 110),
                lambda: recovered_at(NOW - 8),
                "closed",
                id="a recovery beats a copy that merely idled into half open since",
            ),
            pytest.param(
                lambda: counting(failures=2, successes=50),
                lambda: opened_at(NOW - 90),
                "open",
                id="any change beats none",
            ),
            pytest.param(
                lambda: opened_at(NOW - 99.8, cooldown_s=120.0),
                lambda: opened_at(NOW - 100.7),
                "half_open",
                id="within a second the higher generation has come further",
            ),
        ],
    )
    def test_the_table_decides_whoever_merges(self, loser, winner, state, swap):
        ours, theirs = (winner(), loser()) if swap else (loser(), winner())

        assert merged(ours, theirs)["state"] == state

    def test_over_a_second_the_younger_change_wins_against_a_higher_generation(self):
        ours = opened_at(NOW - 101.5)
        theirs = opened_at(NOW - 100.0, cooldown_s=120.0)

        assert merged(ours, theirs)["state"] == "open"

    def test_a_second_is_still_the_same_moment(self):
        ours = opened_at(NOW - 101.0)
        theirs = opened_at(NOW - 100.0, cooldown_s=120.0)

        assert merged(ours, theirs)["state"] == "half_open"

    @pytest.mark.parametrize(
        ("ours", "theirs", "taken"),
        [
            ((2, 0), (1, 5), (1, 6)),  # (failures in a row, calls in the window)
            ((1, 5), (2, 0), (1, 6)),
            ((2, 1), (1, 2), (2, 3)),
            ((1, 2), (2, 1), (2, 3)),
        ],
    )
    def test_of_two_quiet_breakers_the_one_that_saw_more_is_taken_whole(self, ours, theirs, taken):
        entry = merged(counting(*ours), counting(*theirs))

        calls = sum(calls for _, calls, _, _ in entry["window"])
        assert (entry["consecutive"], calls) == taken

    def test_of_two_that_know_the_same_ours_stays(self):
        ours, theirs = opened_at(NOW - 10.0), opened_at(NOW - 9.5)

        assert merged(ours, theirs)["retry_in_s"] == 90.0

    def test_generations_never_fall_so_a_result_of_the_loser_is_not_taken_for_a_new_one(self):
        ours, theirs = recovered_at(NOW - 50), opened_at(NOW - 10)

        assert merged(ours, theirs)["generation"] == 3

    def test_generations_rise_to_those_of_a_loser_from_elsewhere(self):
        ours, theirs = opened_at(NOW - 10), recovered_at(NOW - 50)

        assert merged(ours, theirs)["generation"] == 3

    def test_leases_come_along_so_no_probe_is_handed_out_twice(self):
        ours, theirs = make_board(), opened_at(NOW - 100)
        probe = permit_of(theirs.acquire("m", NOW))

        merged(ours, theirs)
        refused = ours.acquire("m", NOW)
        ours.record("m", probe, IGNORED, FAST_S, NOW)

        assert refused == Refusal(5.0)
        assert isinstance(ours.acquire("m", NOW), Permit)

    def test_the_leases_of_both_sides_keep_their_places(self):
        ours, theirs = (opened_at(NOW - 100, owner=owner) for owner in ("r1", "r2"))
        probes = [permit_of(board.acquire("m", NOW)) for board in (ours, theirs)]

        merged(ours, theirs)
        answers = []
        for probe in probes:
            ours.record("m", probe, IGNORED, FAST_S, NOW)
            answers.append(ours.acquire("m", NOW))

        assert answers == [Refusal(5.0), Permit(2, "r1-2")]
