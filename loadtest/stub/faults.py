"""Faults of the stand-in by name, and what they change in an answer.

before the model   ``REFUSALS``: a status instead of a forecast
while it runs      ``DELAYS``: the family's lock is held all the while
in the answer      ``SPOILERS`` change the forecasts, ``BYTES`` the JSON text
on the wire        ``WAYS`` of sending it
"""

import asyncio
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from starlette.types import Scope, Send

from loadtest.stub.contract import RefusedError

Forecast = dict[str, Any]
Levels = dict[str, list[float]]
MB = 1024 * 1024
TRANSPORTS: MutableMapping[tuple[str, int], asyncio.Transport] = {}  # by the caller's address
_PAGE = b"<!doctype html><title>Maintenance</title><p>We will be back soon."
_SPELLINGS = {"null": b"null", "literal": b"NaN", "infinity": b"1e999", "digits": b"9" * 400}
_CRUMBS = b"1\r\n \r\n" * 10_000  # chunks of one byte
_AGAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_START, _END = b'{"model":"mock","forecasts":[', b"]}"

REFUSALS: Mapping[str, tuple[int, Any]] = {
    "401": (401, "invalid api key"),
    "403": (403, "model license is not accepted"),
    "404": (404, "model 'mock' is not installed"),
    "413": (413, "request body too large: 10679103 bytes exceeds 10 MB limit"),
    "429": (429, "rate limit exceeded"),  # with Retry-After: ARG where ARG is given
    "500": (500, "Internal Server Error"),
    "502": (502, {"code": "RUNNER_ERROR", "message": "runner failed"}),
    "503": (503, "runner unavailable"),
    "flapping": (503, "runner unavailable"),  # ARG calls fail, the next ARG work, and so on (5)
    "redirect": (307, "moved"),  # to a place that would answer
    "circuit_open": (  # tollama's own breaker
        503,
        "circuit breaker is open — runner has failed repeatedly; "
        "will retry after 16s recovery period",
    ),
}
DELAYS = {
    "latency": 1000.0,  # ARG ms on top
    "jitter": 200.0,  # 0 to ARG ms on top
    "hang": 3600.0,  # no answer for ARG s, or until the fault is changed
}
POISONED = {
    "poisoned": 100.0,  # 400 when a value is over ARG in size; loc names the series
    "poisoned_blind": 100.0,  # the same from the model process: no index
}


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    arg: str | None = None

    def number(self, default: float) -> float:
        return float(self.arg) if self.arg else default


def parse_fault(text: str) -> Fault:
    """``KIND`` or ``KIND=ARG`` as a fault; a ValueError if there is no such kind."""
    kind, separator, arg = text.partition("=")
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a fault")
    return Fault(kind, arg if separator else None)


def refuse_by_status(fault: Fault) -> None:
    """Raises the refusal of a status fault; other faults pass."""
    if fault.kind not in REFUSALS:
        return
    headers = {"Location": "/v1/forecast?followed=1"} if fault.kind == "redirect" else {}
    if fault.kind == "429" and fault.arg:
        headers["Retry-After"] = fault.arg
    raise RefusedError(*REFUSALS[fault.kind], headers)


def refuse_poison(fault: Fault, series: list[dict[str, Any]]) -> None:
    """One series over the limit fails the whole call, as one bad series does in tollama."""
    limit = fault.number(POISONED[fault.kind])
    for index, one in enumerate(series):
        if max(map(abs, one["target"])) > limit:
            raise RefusedError(400, _poison_detail(fault.kind, index))


def _poison_detail(kind: str, index: int) -> Any:
    if kind == "poisoned_blind":
        return {"code": "BAD_REQUEST", "message": "input is not supported by the model"}
    message = "Value error, target holds a value the model does not support"
    loc = ["body", "series", index]
    return [{"type": "value_error", "loc": loc, "msg": message, "input": None}]


# In the answer

Spoiler = Callable[[list[Forecast], Fault], list[Forecast]]


def _levels(change: Callable[[Levels, Fault], Levels | None]) -> Spoiler:
    """Changes the quantiles of each forecast."""
    return lambda forecasts, fault: [
        {**f, "quantiles": change(f["quantiles"] or {}, fault)} for f in forecasts
    ]


def _without_last_value(levels: Levels, _: Fault) -> Any:
    return {q: [*path[:-1], None] for q, path in levels.items()}


def _resized(levels: Levels, fault: Fault) -> Levels:
    extra = int(fault.number(-1))
    return {
        q: path + path[-1:] * extra if extra > 0 else path[:extra] for q, path in levels.items()
    }


def _swapped_ids(forecasts: list[Forecast], _: Fault) -> list[Forecast]:
    ids = [f["id"] for f in forecasts]
    moved = [*ids[1:], ids[0]] if len(ids) > 1 else [f"not-{name}" for name in ids]
    return [{**f, "id": name} for f, name in zip(forecasts, moved, strict=True)]


SPOILERS: Mapping[str, Spoiler] = {
    "nan_values": _levels(_without_last_value),  # ARG null (tollama's), literal, infinity, digits
    "missing_quantile": _levels(lambda levels, _: dict(list(levels.items())[:-1])),
    "quantiles_null": _levels(lambda *_: None),  # only the mean
    "wrong_horizon": _levels(_resized),  # ARG steps more or less (-1)
    "crossed": _levels(lambda levels, _: dict(zip(levels, [*levels.values()][::-1], strict=True))),
    "swapped_ids": _swapped_ids,  # each forecast under its neighbour's id
    "missing_id": lambda forecasts, _: [
        {name: value for name, value in f.items() if name != "id"} for f in forecasts
    ],
    "missing_series": lambda *_: [],
    "duplicate_ids": lambda forecasts, _: [{**f, "id": forecasts[0]["id"]} for f in forecasts],
}
BYTES: Mapping[str, Callable[[bytes, Fault], bytes]] = {
    "truncated_json": lambda body, _: body[: len(body) // 2],
    "nan_values": lambda body, fault: body.replace(
        b"null]", _SPELLINGS[fault.arg or "null"] + b"]"
    ),
    "bad_utf8": lambda body, _: body.replace(b'"id":"', b'"id":"\xff'),
}


def spoil(fault: Fault | None, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with its forecasts spoiled; unchanged by faults of other kinds."""
    if fault is None or fault.kind not in SPOILERS:
        return answer
    return {**answer, "forecasts": SPOILERS[fault.kind](answer["forecasts"], fault)}


# On the wire


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


async def deliver(reply: Reply, fault: Fault | None, scope: Scope, send: Send) -> None:
    """Sends the reply, spoiled on the way when the fault is one of the wire."""
    if fault is None or reply.status != 200:
        await _whole(reply, send)
    elif spoil_bytes := BYTES.get(fault.kind):
        await _whole(replace(reply, body=spoil_bytes(reply.body, fault)), send)
    elif way := WAYS.get(fault.kind):
        await way(reply, fault, scope, send)
    else:
        await _whole(reply, send)


@lru_cache(maxsize=1)
def gzip_bomb(size_mb: int) -> bytes:
    """A gzip stream of about a thousandth of ``size_mb`` that inflates to it: JSON and spaces.

    A full flush ends on a byte boundary and forgets the history, so that a block of spaces can be
    deflated once and repeated in one stream.
    """
    blank = b" " * (16 * MB)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(_START) + packer.flush(zlib.Z_FULL_FLUSH)
    middle = packer.compress(blank) + packer.flush(zlib.Z_FULL_FLUSH)
    tail = packer.compress(_END) + packer.flush(zlib.Z_FINISH)
    repeats = max(1, size_mb // 16)
    check, length = zlib.crc32(_START), len(_START) + repeats * len(blank) + len(_END)
    for _ in range(repeats):
        check = zlib.crc32(blank, check)
    trailer = struct.pack("<II", zlib.crc32(_END, check), length & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + head + middle * repeats + tail + trailer


async def _whole(reply: Reply, send: Send) -> None:
    await _start(reply, send, len(reply.body))
    await send({"type": "http.response.body", "body": reply.body})


async def _start(reply: Reply, send: Send, length: int | None) -> None:
    headers = {"content-type": "application/json", **reply.headers}
    if length is not None:
        headers["content-length"] = str(length)
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})


async def _streamed(
    reply: Reply, pieces: AsyncIterator[bytes], send: Send, length: int | None = None
) -> None:
    await _start(reply, send, length)
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _drops(body: bytes, size: int, pause_s: float) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(pause_s)


async def _flood(size_mb: int) -> AsyncIterator[bytes]:
    yield _START
    for _ in range(size_mb):
        yield b" " * MB
    yield _END


async def _web_page(_reply: Reply, _fault: Fault, _scope: Scope, send: Send) -> None:
    await _whole(Reply(200, _PAGE, {"content-type": "text/html"}), send)


async def _bomb(_reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    bomb = gzip_bomb(int(fault.number(1100)))
    await _whole(Reply(200, bomb, {"Content-Encoding": "gzip"}), send)


async def _drip(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    size, pause_s = -(-len(reply.body) // 100), fault.number(10) / 100
    await _streamed(reply, _drops(reply.body, size, pause_s), send, len(reply.body))


async def _bytes(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    pieces = _drops(reply.body, 1, fault.number(5) / 1000)
    await _streamed(reply, pieces, send, len(reply.body))


async def _late(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    await asyncio.sleep(random.uniform(1, 2) * fault.number(300) / 1000)
    await _whole(reply, send)


async def _huge(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    await _streamed(reply, _flood(int(fault.number(100))), send)


async def _endless(reply: Reply, _fault: Fault, scope: Scope, send: Send) -> None:
    await _start(reply, send, None)
    await send({"type": "http.response.body", "body": b" ", "more_body": True})
    connection = TRANSPORTS[scope["client"]]
    while not connection.is_closing():
        connection.write(_CRUMBS)
        await asyncio.sleep(0.01)


async def _twice(reply: Reply, _fault: Fault, scope: Scope, send: Send) -> None:
    connection = TRANSPORTS[scope["client"]]
    await _whole(reply, send)
    connection.write(_AGAIN % (len(reply.body), reply.body))


async def _reset(reply: Reply, _fault: Fault, scope: Scope, send: Send) -> None:
    await _begun(reply, send, len(reply.body) // 2)
    reset(TRANSPORTS[scope["client"]])
    await _until_closed(scope)


async def _cut(reply: Reply, fault: Fault, scope: Scope, send: Send) -> None:
    await _begun(reply, send, int(fault.number(200)))
    TRANSPORTS[scope["client"]].close()
    await _until_closed(scope)


async def _begun(reply: Reply, send: Send, size: int) -> None:
    """The head and the first bytes of the body."""
    await _start(reply, send, len(reply.body))
    await send({"type": "http.response.body", "body": reply.body[:size], "more_body": True})
    await asyncio.sleep(0.02)  # let them leave: a reset throws away what is queued


async def _reset_first(_reply: Reply, fault: Fault, scope: Scope, _send: Send) -> None:
    await asyncio.sleep(fault.number(20) / 1000)
    reset(TRANSPORTS[scope["client"]])
    await _until_closed(scope)


async def _half_close(_reply: Reply, _fault: Fault, scope: Scope, _send: Send) -> None:
    TRANSPORTS[scope["client"]].write_eof()
    await _until_closed(scope)


async def _black_hole(_reply: Reply, _fault: Fault, scope: Scope, _send: Send) -> None:
    await _until_closed(scope)


async def _until_closed(scope: Scope) -> None:
    while scope["client"] in TRANSPORTS:  # noqa: ASYNC110 - the protocol removes it
        await asyncio.sleep(0.01)


WAYS: Mapping[str, Callable[[Reply, Fault, Scope, Send], Awaitable[None]]] = {
    "wrong_content_type": _web_page,  # 200 with a web page
    "gzip_bomb": _bomb,  # about 1 MB that inflates to ARG MB (1100)
    "slow_drip": _drip,  # the body takes ARG s (10)
    "huge_answer": _huge,  # ARG MB streamed without a length (100)
    "endless_chunks": _endless,  # of one byte each
    "answered_twice": _twice,  # the next request on the connection finds this answer
    "reset_mid_body": _reset,  # half the body, then RST
    "reset_first": _reset_first,  # RST after ARG ms (20), before any data
    "cut": _cut,  # the connection is closed after ARG bytes of the body (200)
    "half_close": _half_close,  # the end of the data is sent before any data
    "black_hole": _black_hole,  # no data, and the connection stays open
    "byte_drip": _bytes,  # one byte of the body each ARG ms (5)
    "late_answer": _late,  # ARG to twice ARG ms after the model (300), which others may use
}
EARLY = {"reset_first", "half_close", "black_hole"}  # before the model
KINDS = {*REFUSALS, *DELAYS, *POISONED, *SPOILERS, *BYTES, *WAYS}


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes with a TCP reset: queued data is lost. asyncio has no method for it."""
    if transport.is_closing():
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
