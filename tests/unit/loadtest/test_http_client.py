"""The small HTTP client: bodies both ways, connections that are used again or not, addresses."""

import pytest

from loadtest.http_client import Pool, endpoint
from tests.unit.loadtest.fake_service import answer, serving

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
)
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
LARGE = answer(b"ab" * 100_000)


@pytest.mark.parametrize(
    ("reply", "content"), [(LARGE, b"ab" * 100_000), (CHUNKED, b"abcde"), (CLOSING, b"x")]
)
async def test_bodies_go_out_and_answers_come_back_one_after_the_other(
    reply: bytes, content: bytes
):
    seen = []

    async def handle(body: bytes) -> bytes:
        seen.append(body)
        return reply

    async with serving(handle) as url:
        pool = Pool(endpoint(url, "/x"), 5)
        answers = [await pool.ask(body) for body in (b"1", b"", b"3")]
        pool.close()

    assert answers == [(200, content, False)] * 3
    assert seen == [b"1", b"", b"3"]


async def test_a_broken_connection_is_an_error_and_the_next_request_reconnects():
    answers = iter([b"", answer(b"back")])

    async def reply(_body: bytes) -> bytes:
        return next(answers)

    async with serving(reply) as url:
        pool = Pool(endpoint(url, "/x"), 5)
        with pytest.raises(ConnectionResetError, match="broke"):
            await pool.ask(b"1")

        assert (await pool.ask(b"2"))[:2] == (200, b"back")
        pool.close()
