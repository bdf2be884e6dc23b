"""The state of all markets and the alerts that are to be delivered, in one SQLite file.

A market's new state and the alert that follows from it are written in one transaction: after a kill
at any point either both are there, or neither, and the same check gives the same alert again, with
the same id. An alert is removed when every receiver has it, so it is delivered at least once.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

from serve_app.watch.alerts import Alert, MarketState

_TABLES = """
CREATE TABLE IF NOT EXISTS markets (
    market_id TEXT PRIMARY KEY, checked_ts REAL, since_ts REAL, breach TEXT, told INTEGER);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert_id TEXT, receiver TEXT, alert TEXT,
    attempts INTEGER DEFAULT 0, UNIQUE (alert_id, receiver));
"""
FORGET_AFTER_S = 7 * 86400.0  # of a market that is not seen any more


class Waiting(NamedTuple):
    """An alert that a receiver does not have yet."""

    number: int
    alert: dict[str, Any]
    attempts: int


class Journal:
    """Opens or creates the file; sqlite3.Error if it is no such file."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_TABLES)

    def states(self) -> dict[str, MarketState]:
        """The state of every market."""
        rows = self._db.execute("SELECT * FROM markets").fetchall()
        return {market_id: MarketState(*values) for market_id, *values in rows}

    def record(
        self,
        changes: Iterable[tuple[str, MarketState, Alert | None]],
        receivers: Sequence[str],
        now: float,
    ) -> None:
        """Writes the results of a cycle: all of them, or none."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for market_id, state, alert in changes:
                values = asdict(state).values()
                self._db.execute(
                    "INSERT OR REPLACE INTO markets VALUES (?, ?, ?, ?, ?)", (market_id, *values)
                )
                for receiver in receivers:
                    if alert is None:
                        break
                    self._db.execute(
                        "INSERT OR IGNORE INTO outbox (alert_id, receiver, alert) VALUES (?, ?, ?)",
                        (alert.id, receiver, json.dumps(alert.as_dict())),
                    )
            self._db.execute("DELETE FROM markets WHERE checked_ts < ?", (now - FORGET_AFTER_S,))

    def waiting(self, receiver: str, most: int) -> list[Waiting]:
        """The oldest alerts that a receiver does not have."""
        rows = self._db.execute(
            "SELECT number, alert, attempts FROM outbox WHERE receiver = ? ORDER BY number LIMIT ?",
            (receiver, most),
        )
        return [Waiting(number, json.loads(alert), attempts) for number, alert, attempts in rows]

    def delivered(self, number: int) -> None:
        """Removes an alert that its receiver has, or never will have."""
        self._db.execute("DELETE FROM outbox WHERE number = ?", (number,))

    def failed(self, number: int) -> None:
        """Counts an attempt."""
        self._db.execute("UPDATE outbox SET attempts = attempts + 1 WHERE number = ?", (number,))

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
