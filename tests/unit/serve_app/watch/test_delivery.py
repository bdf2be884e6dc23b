import asyncio
import io
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.watch.alerts import Alert, MarketState
from serve_app.watch.delivery import (
    ATTEMPTS,
    FIRST_PAUSE_S,
    LINES,
    LONGEST_PAUSE_S,
    WEBHOOK,
    Webhook,
    slack_payload,
    write_lines,
)
from serve_app.watch.journal import Journal
from tests.support.virtual_time import run_virtual

SECRET = "https://hooks.example.com/T0/hidden-part\n"  # as from a file


def alert(number: int) -> Alert:
    return Alert(f"id-{number}", "m-1", None, 1.0, "run", "above", 0.7, 0.5, None, None, "m", None)


class Receiver:
    """A webhook that answers with the statuses it was given, then with 200."""

    def __init__(self, tmp_path: Path, *statuses: int, alerts: int = 2, **options) -> None:
        self.journal = Journal(":memory:")
        self.dead = tmp_path / "dead.jsonl"
        self.statuses, self.got = list(statuses), list[httpx.Request]()
        transport = httpx.MockTransport(self.answer)
        self.webhook = Webhook(SECRET, self.journal, self.dead, transport=transport, **options)
        for number in range(alerts):
            state = MarketState(1.0)
            self.journal.record([("m-1", state, alert(number))], (LINES, WEBHOOK), 1.0)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.got.append(request)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            raise httpx.ReadTimeout("too slow")
        return httpx.Response(status)

    def ids(self) -> list[str]:
        return [request.headers["idempotency-key"] for request in self.got]


async def test_alerts_are_posted_in_order_with_their_ids(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)

    assert await receiver.webhook.deliver() is True
    assert receiver.ids() == ["id-0", "id-1"]
    assert json.loads(receiver.got[0].content) == alert(0).as_dict()
    assert receiver.journal.waiting(WEBHOOK, 9) == []
    assert len(receiver.journal.waiting(LINES, 9)) == 2


@pytest.mark.parametrize("status", [0, 408, 429, 500, 503])
async def test_failed_alert_is_sent_again_before_later_ones(tmp_path: Path, status: int) -> None:
    receiver = Receiver(tmp_path, status)

    assert await receiver.webhook.deliver() is False
    assert await receiver.webhook.deliver() is True
    assert receiver.ids() == ["id-0", "id-0", "id-1"]
    assert not receiver.dead.exists()


@pytest.mark.parametrize("statuses", [(400,), (404,), (500,) * ATTEMPTS])
async def test_alert_that_is_never_taken_is_a_dead_letter(tmp_path: Path, statuses) -> None:
    receiver = Receiver(tmp_path, *statuses)
    for _ in statuses:
        await receiver.webhook.deliver()

    assert receiver.ids() == ["id-0"] * len(statuses) + ["id-1"]
    (line,) = receiver.dead.read_text().splitlines()
    assert json.loads(line) == {"alert": alert(0).as_dict(), "reason": f"status {statuses[0]}"}


async def test_an_alert_that_cannot_be_written_holds_back_no_other(tmp_path: Path) -> None:
    def payload(one: dict[str, Any]) -> dict[str, Any]:
        if one["id"] == "id-0":
            raise TypeError("an alert of another version")
        return one

    receiver = Receiver(tmp_path, payload=payload)
    for _ in range(ATTEMPTS):
        await receiver.webhook.deliver()

    assert receiver.ids() == ["id-1"]
    assert json.loads(receiver.dead.read_text())["reason"] == "TypeError"


def test_delivery_goes_on_after_an_error_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        delivering = asyncio.create_task(receiver.webhook.run())
        await asyncio.sleep(FIRST_PAUSE_S / 2)
        receiver.dead.rmdir()
        await asyncio.sleep(LONGEST_PAUSE_S)
        delivering.cancel()

    receiver = Receiver(tmp_path, 400, 400)
    receiver.dead.mkdir()  # no letter can be written
    run_virtual(main())

    assert receiver.ids() == ["id-0", "id-0", "id-1"]
    assert "IsADirectoryError" in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    "text", ["", "hooks.example.com/secret", "ftp://a/secret", "http://a:b/secret"]
)
def test_wrong_address_is_refused_at_the_start_without_its_text(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="http") as refused:
        Webhook(text, Journal(":memory:"), tmp_path)

    assert "secret" not in str(refused.value)


async def test_secret_of_the_address_is_in_no_log_and_no_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver = Receiver(tmp_path, 0, 500, 400)
    for _ in range(3):
        await receiver.webhook.deliver()

    assert "id-0" in caplog.text
    assert "hidden" not in caplog.text + receiver.dead.read_text()


async def test_slack_gets_a_text(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, payload=slack_payload, alerts=1)
    await receiver.webhook.deliver()

    assert json.loads(receiver.got[0].content) == {"text": alert(0).text()}


@pytest.mark.parametrize("as_json", [True, False])
def test_lines_are_written_once(tmp_path: Path, as_json: bool) -> None:
    receiver, out = Receiver(tmp_path), io.StringIO()

    counts = [write_lines(receiver.journal, out, as_json) for _ in range(2)]

    assert counts == [2, 0]
    first, second = out.getvalue().splitlines()
    assert (json.loads(first)["id"] == "id-0") if as_json else first == second == alert(0).text()
