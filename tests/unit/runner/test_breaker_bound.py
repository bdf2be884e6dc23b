"""How many breakers a board keeps, and which leave first."""

import pytest

from runner.breaker import Permit
from runner.breaker_board import MAX_BREAKERS, BreakerBoard, Command
from tests.breakers import FAST_S, NOW, SUCCESS, fail, make_board, make_settings


def name_by_record(board: BreakerBoard) -> None:
    board.record("new", Permit(0), SUCCESS, FAST_S, NOW)


def name_by_command(board: BreakerBoard) -> None:
    board.command("new", Command.RESET, 1, NOW)


def name_by_merge(board: BreakerBoard) -> None:
    theirs = make_board()
    theirs.acquire("new", NOW)
    board.merge(theirs.snapshot(NOW), NOW)


@pytest.mark.parametrize("name_by", [name_by_record, name_by_command, name_by_merge])
def test_however_a_name_comes_in_an_open_breaker_outlasts_closed_ones(name_by):
    board = make_board(max_breakers=2)
    fail(board, "bad", NOW)
    board.acquire("good", NOW)

    name_by(board)

    assert list(board.snapshot(NOW)) == ["bad", "new"]


def test_a_board_that_is_told_more_than_it_keeps_keeps_the_open_ones():
    theirs = make_board()
    fail(theirs, "bad", NOW)
    for name in ("a", "b"):
        theirs.acquire(name, NOW)
    board = make_board(max_breakers=2)

    board.adopt(theirs.snapshot(NOW), NOW)

    assert list(board.snapshot(NOW)) == ["bad", "b"]


class TestBound:
    def test_is_generous_unless_told_otherwise(self):
        board = BreakerBoard(make_settings(), lambda: 0.5, "r1")

        for n in range(MAX_BREAKERS + 10):
            board.acquire(f"m{n}", NOW)

        assert MAX_BREAKERS == 256
        assert len(board.snapshot(NOW)) == MAX_BREAKERS

    def test_the_closed_breaker_that_idled_longest_leaves_first(self):
        board = make_board(max_breakers=3)
        for name in ("a", "b", "c", "a"):
            board.acquire(name, NOW)

        board.acquire("d", NOW)

        assert list(board.snapshot(NOW)) == ["c", "a", "d"]

    def test_an_open_breaker_outlasts_closed_ones(self):
        board = make_board(max_breakers=2)
        fail(board, "bad", NOW)

        for name in ("a", "b", "c"):
            board.acquire(name, NOW)

        assert list(board.snapshot(NOW)) == ["bad", "c"]

    def test_a_half_open_breaker_outlasts_closed_ones(self):
        board = make_board(max_breakers=2)
        fail(board, "bad", NOW)

        for name in ("a", "b", "c"):
            board.acquire(name, NOW + 100)

        assert list(board.snapshot(NOW + 100)) == ["bad", "c"]

    @pytest.mark.parametrize("command", [Command.FORCE_OPEN, Command.FORCE_CLOSE])
    @pytest.mark.parametrize("now", [NOW, NOW + 100])
    def test_a_forced_breaker_outlasts_open_ones(self, command, now):
        board = make_board(max_breakers=2)
        board.command("forced", command, 1, NOW)
        fail(board, "bad", NOW)

        board.acquire("new", now)

        assert list(board.snapshot(now)) == ["forced", "new"]

    def test_even_forced_breakers_give_way_to_the_bound(self):
        board = make_board(max_breakers=2)
        for number, name in enumerate("abc"):
            board.command(name, Command.FORCE_OPEN, number, NOW)

        assert list(board.snapshot(NOW)) == ["b", "c"]
