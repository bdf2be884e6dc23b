"""Delivers alerts: as lines, and to a webhook.

Lines are written at once. A webhook is called by a task of its own, so that one that hangs delays
no cycle; an alert that it refuses, or does not take in `ATTEMPTS`, goes to the dead-letter file.
"""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import httpx

from serve_app.watch.alerts import Alert
from serve_app.watch.journal import Journal, Waiting

_LOG = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, and these are secrets
LINES, WEBHOOK = "lines", "webhook"
LIMIT_S = 5.0  # for one call
ATTEMPTS = 8  # with pauses of 1, 2, 4 ... 64 s: two minutes
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 64.0
AT_ONCE = 100
_REFUSED = range(400, 500)  # the same alert would be refused again
_COME_AGAIN = (408, 425, 429)


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("write an address that begins with http:// or https://")
    return url


def write_lines(journal: Journal, out: TextIO, as_json: bool) -> int:
    """Writes the alerts that wait to be written; returns their number."""
    written = 0
    while waiting := journal.waiting(LINES, AT_ONCE):
        for number, alert, _ in waiting:
            out.write((json.dumps(alert) if as_json else Alert(**alert).text()) + "\n")
            out.flush()
            journal.delivered(number)
            written += 1
    return written


def plain_payload(alert: dict[str, Any]) -> dict[str, Any]:
    """The alert itself."""
    return alert


def slack_payload(alert: dict[str, Any]) -> dict[str, Any]:
    """A message as Slack and its likes take it."""
    return {"text": Alert(**alert).text()}


class Webhook:
    """Posts alerts to a URL, which may hold a secret: it is never logged or written.

    Raises ValueError, without the text, where ``url`` is no such address.
    """

    def __init__(
        self,
        url: str,
        journal: Journal,
        dead_letters: Path,
        payload: Callable[[dict[str, Any]], dict[str, Any]] = plain_payload,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url, self._journal, self._dead_letters = _address(url), journal, dead_letters
        self._payload = payload
        self._http = httpx.AsyncClient(timeout=LIMIT_S, transport=transport)
        self.failures = 0

    async def run(self) -> None:
        """Delivers what waits, for ever."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                went_well = await self.deliver()
            except Exception as exc:  # noqa: BLE001 - what waits must not wait until a restart
                went_well, text = False, type(exc).__name__
                why = f"{text}: {exc}" if isinstance(exc, OSError | sqlite3.Error) else text
                _LOG.error("Alerts cannot be delivered (%s); it is tried again.", why)
            pause_s = FIRST_PAUSE_S if went_well else min(2 * pause_s, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def deliver(self) -> bool:
        """Tries everything that waits once, the oldest first; whether all went well."""
        while waiting := self._journal.waiting(WEBHOOK, AT_ONCE):
            for one in waiting:
                if not await self._deliver(one):
                    return False
        return True

    async def _deliver(self, one: Waiting) -> bool:
        headers = {"Idempotency-Key": one.alert["id"]}
        try:
            payload = self._payload(one.alert)
            async with asyncio.timeout(LIMIT_S):
                answer = await self._http.post(self._url, json=payload, headers=headers)
            status, why = answer.status_code, f"status {answer.status_code}"
        except Exception as exc:  # noqa: BLE001 - one odd alert must not hold back all others
            status, why = 0, type(exc).__name__
        if 200 <= status < 300:
            self._journal.delivered(one.number)
            return True
        self.failures += 1
        is_refused = status in _REFUSED and status not in _COME_AGAIN
        if is_refused or one.attempts + 1 >= ATTEMPTS:
            self._bury(one, why)
            return True
        self._journal.failed(one.number)
        _LOG.warning("The webhook did not take %s (%s); it is sent again.", one.alert["id"], why)
        return False

    def _bury(self, one: Waiting, why: str) -> None:
        """Writes an alert to the dead-letter file."""
        with self._dead_letters.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"alert": one.alert, "reason": why}) + "\n")
        self._journal.delivered(one.number)
        _LOG.error(
            "The webhook did not take alert %s (%s); it is in %s.",
            one.alert["id"], why, self._dead_letters,
        )  # fmt: skip

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
