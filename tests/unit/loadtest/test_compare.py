import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from loadtest.compare.__main__ import placed
from loadtest.compare.drive import closed_loop, open_loop, runtime_call
from loadtest.compare.report import ROWS, Row, missed, table


@asynccontextmanager
async def answering(status: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers every request with ``status`` and remembers the bodies."""
    bodies: list[bytes] = []
    started: list[asyncio.StreamWriter] = []
    ended: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            await serve(reader, writer)
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
        ended.append(writer)

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://127.0.0.1:{port}", bodies
        while len(ended) < len(started):  # noqa: ASYNC110 - a few turns of the loop
            await asyncio.sleep(0)


async def test_closed_loop_sends_every_body_once() -> None:
    async with answering(b"200 OK") as (url, bodies):
        drive = await closed_loop(url, "/x", [b"a", b"b", b"c"], connections=2)

    assert sorted(bodies) == [b"a", b"b", b"c"]
    assert drive.per_second > 0
    assert drive.p50_ms <= drive.p95_ms


async def test_open_loop_sends_every_body_at_its_rate() -> None:
    async with answering(b"200 OK") as (url, bodies):
        drive = await open_loop(url, "/x", [b"a"] * 10, per_second=200.0)

    assert len(bodies) == 10
    assert drive.per_second < 250.0


async def test_answer_that_is_no_success_stops_the_comparison() -> None:
    async with answering(b"503 Nope") as (url, _):
        with pytest.raises(RuntimeError, match="status 503"):
            await closed_loop(url, "/x", [b"a"], connections=1)


def test_runtime_call_holds_as_many_series_as_asked() -> None:
    assert runtime_call(3, 5, 2, "mock").count(b'"id"') == 3


def test_limits_are_held_or_missed_by_the_median() -> None:
    rounds = [{"hit_share": 0.6}, {"hit_share": 0.8}, {"hit_share": 0.75}]

    assert missed(rounds) == []
    assert missed([{"hit_share": 0.6}]) == ["cache hits as a share of the empty ingress"]
    assert "| >= 0.7 | 0.75 | 0.60 | 0.80 | yes |" in table(rounds)


@pytest.mark.parametrize(
    ("row", "value", "holds"),
    [
        (Row("n", "m", at_least=2), 2.0, True),
        (Row("n", "m", at_least=2), 1.9, False),
        (Row("n", "m", under=2), 1.9, True),
        (Row("n", "m", under=2), 2.0, False),
        (Row("n", "m"), 1e9, True),
    ],
)
def test_row_knows_its_limit(row: Row, value: float, holds: bool) -> None:
    assert row.holds(value) is holds


def test_rows_are_named_once() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_table_is_put_between_its_marks() -> None:
    page = "a <!-- bench -->old<!-- /bench --> z"

    assert placed(page, "new") == "a <!-- bench -->\nnew\n<!-- /bench --> z"
