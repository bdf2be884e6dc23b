import sqlite3
from pathlib import Path

import pytest

from serve_app.watch.alerts import Alert, MarketState
from serve_app.watch.journal import FORGET_AFTER_S, Journal

NOW = 1e9
STATE = MarketState(NOW, NOW - 300, "above", 2)
ALERT = Alert("id-1", "m-1", None, NOW, "run", "above", 0.7, 0.5, None, None, "m", None)
BOTH = ("lines", "webhook")


def test_state_and_alert_are_there_after_a_restart(tmp_path: Path) -> None:
    with Journal(tmp_path / "watch.db") as journal:
        journal.record([("m-1", STATE, ALERT)], BOTH, NOW)
    with Journal(tmp_path / "watch.db") as journal:
        assert journal.states() == {"m-1": STATE}
        assert [one.alert for one in journal.waiting("lines", 9)] == [ALERT.as_dict()]


def test_each_receiver_gets_an_alert_once_however_often_it_is_recorded() -> None:
    with Journal(":memory:") as journal:
        for _ in range(2):
            journal.record([("m-1", STATE, ALERT)], BOTH, NOW)
        (one,) = journal.waiting("lines", 9)
        journal.failed(one.number)
        (again,) = journal.waiting("lines", 9)
        journal.delivered(one.number)

        assert (one.attempts, again.attempts) == (0, 1)
        assert journal.waiting("lines", 9) == []
        assert len(journal.waiting("webhook", 9)) == 1


def test_cycle_is_recorded_as_a_whole_or_not_at_all() -> None:
    broken = MarketState(NOW, NOW, object(), 1)  # type: ignore[arg-type]
    with Journal(":memory:") as journal:
        with pytest.raises(sqlite3.Error):
            journal.record([("m-1", STATE, ALERT), ("m-2", broken, None)], BOTH, NOW)

        assert journal.states() == {}
        assert journal.waiting("lines", 9) == []


def test_market_that_is_not_seen_for_a_week_is_forgotten() -> None:
    with Journal(":memory:") as journal:
        journal.record([("m-1", STATE, None)], BOTH, NOW)
        journal.record([], BOTH, NOW + FORGET_AFTER_S)
        kept = journal.states()
        journal.record([], BOTH, NOW + FORGET_AFTER_S + 1)

        assert (list(kept), journal.states()) == (["m-1"], {})


def test_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "watch.db").write_text("no database at all " * 100)

    with pytest.raises(sqlite3.Error):
        Journal(tmp_path / "watch.db")
