"""The small HTTP client: every way an answer can be framed, and every way it can fail."""

import pytest

from loadtest.http_client import Connection, endpoint
from tests.unit.loadtest.fake_service import answer, serving

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
)


async def post(url: str, *bodies: bytes, timeout_s: float = 5) -> list[tuple[int, bytes]]:
    connection = Connection(endpoint(url, "/x"), timeout_s)
    try:
        return [(await connection.ask(body))[:2] for body in bodies]
    finally:
        connection.close()


async def test_bodies_go_out_and_come_back_on_one_connection():
    async def echo(body: bytes) -> bytes:
        return answer(body * 100_000)

    async with serving(echo) as url:
        answers = await post(url, b"ab", b"", b"c")

    assert answers == [(200, b"ab" * 100_000), (200, b""), (200, b"c" * 100_000)]


async def test_chunks_are_put_together():
    async def chunks(_body: bytes) -> bytes:
        return CHUNKED

    async with serving(chunks) as url:
        assert await post(url, b"1", b"2") == [(200, b"abcde"), (200, b"abcde")]


async def test_a_body_without_a_length_ends_with_the_connection():
    async def reply(_body: bytes) -> bytes:
        return b"HTTP/1.1 503 No\r\n\r\nall of it"

    async with serving(reply) as url:
        assert await post(url, b"1", b"2") == [(503, b"all of it")] * 2


async def test_a_connection_the_server_wants_to_close_is_not_used_again():
    seen = []

    async def reply(body: bytes) -> bytes:
        seen.append(body)
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"

    async with serving(reply) as url:
        assert await post(url, b"1", b"2") == [(200, b"x"), (200, b"x")]
    assert seen == [b"1", b"2"]


async def test_a_broken_connection_is_an_error_and_the_next_request_reconnects():
    answers = iter([b"", answer(b"back")])

    async def reply(_body: bytes) -> bytes:
        return next(answers)

    async with serving(reply) as url:
        connection = Connection(endpoint(url, "/x"), 5)
        with pytest.raises(ConnectionResetError, match="broke"):
            await connection.ask(b"1")

        assert (await connection.ask(b"2"))[:2] == (200, b"back")
        connection.close()


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8000", "http://", "/path"])
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(ValueError, match="is not an http"):
        endpoint(url, "/x")


def test_a_path_in_the_address_is_kept():
    assert endpoint("https://h/base/", "/x").head.startswith(
        b"POST /base/x HTTP/1.1\r\nHost: h\r\n"
    )
    assert endpoint("https://h/base/", "/x").port == 443
