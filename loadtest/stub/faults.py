"""Faults of the stand-in: their kinds, when they happen, and what they change in an answer.

before the model   a status instead of a forecast: 401, 403, 404, 413, 429, 500, 502, 503, ...
while it runs      latency, jitter, hang: the family's lock is held all the while
in the answer      nan_values, missing_quantile, ...: the functions in ``SPOILERS``
on the wire        slow_drip, reset_mid_body, ...: the functions in ``_WAYS``
"""

import asyncio
import random
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from starlette.types import Scope, Send

from loadtest.stub.contract import RefusedError

Forecast = dict[str, Any]
MB = 1024 * 1024
TRANSPORTS: MutableMapping[tuple[str, int], asyncio.Transport] = {}  # by the caller's address
_PAGE = b"<!doctype html><title>Maintenance</title><p>We will be back soon."
_SPELLINGS = {"null": b"null", "literal": b"NaN", "infinity": b"1e999", "digits": b"9" * 400}
_CRUMBS = b"1\r\n \r\n" * 10_000  # chunks of one byte
_AGAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Kind(StrEnum):
    """Every fault by the name it has on the command line and in ``POST /_control``."""

    LATENCY = "latency"  # ARG ms on top (1000)
    JITTER = "jitter"  # 0 to ARG ms on top (200)
    HANG = "hang"  # no answer for ARG s (3600), or until the fault is changed
    SLOW_DRIP = "slow_drip"  # the body takes ARG s (10)
    RESET_MID_BODY = "reset_mid_body"  # half the body, then RST
    WRONG_CONTENT_TYPE = "wrong_content_type"  # 200 with a web page
    TRUNCATED_JSON = "truncated_json"  # a complete response that holds half the JSON
    NAN_VALUES = "nan_values"  # ARG null (as tollama does), literal (NaN), infinity, digits (400)
    BAD_UTF8 = "bad_utf8"  # bytes that are no text in each id
    MISSING_QUANTILE = "missing_quantile"  # the last level is left out
    QUANTILES_NULL = "quantiles_null"  # only the mean
    WRONG_HORIZON = "wrong_horizon"  # ARG steps more or less (-1)
    CROSSED = "crossed"  # the levels' paths in descending order
    SWAPPED_IDS = "swapped_ids"  # each forecast under its neighbour's id
    MISSING_ID = "missing_id"  # a forecast without its id
    MISSING_SERIES = "missing_series"  # a forecast left out
    DUPLICATE_IDS = "duplicate_ids"  # all under the first one's id
    POISONED = "poisoned"  # 400 when a value is over ARG in size; loc names the series
    POISONED_BLIND = "poisoned_blind"  # the same from the model process: no index
    FLAPPING = "flapping"  # ARG calls fail with 503, the next ARG work, and so on (5)
    CIRCUIT_OPEN = "circuit_open"  # tollama's own breaker
    GZIP_BOMB = "gzip_bomb"  # about 1 MB that inflates to ARG MB (1100)
    HUGE_ANSWER = "huge_answer"  # ARG MB streamed without a length (100)
    ENDLESS_CHUNKS = "endless_chunks"  # of one byte each
    ANSWERED_TWICE = "answered_twice"  # the next request on the connection finds this answer
    REDIRECT = "redirect"  # 307 to a place that would answer
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    TOO_LARGE = "413"
    OVERLOADED = "429"  # with Retry-After: ARG when ARG is given
    BROKEN = "500"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"


DETAILS: Mapping[Kind, Any] = {
    Kind.UNAUTHORIZED: "invalid api key",
    Kind.FORBIDDEN: "model license is not accepted",
    Kind.NOT_FOUND: "model 'mock' is not installed",
    Kind.TOO_LARGE: "request body too large: 10679103 bytes exceeds 10 MB limit",
    Kind.OVERLOADED: "rate limit exceeded",
    Kind.BROKEN: "Internal Server Error",
    Kind.BAD_GATEWAY: {"code": "RUNNER_ERROR", "message": "runner failed"},
    Kind.UNAVAILABLE: "runner unavailable",
}
_CIRCUIT_OPEN = (
    "circuit breaker is open — runner has failed repeatedly; will retry after 16s recovery period"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in force: its kind, argument, and how much of the traffic it takes.

    ``share`` is the fraction of calls, ``count`` how many calls at most, ``items`` how many series
    of a call are spoiled (from the first on), None for no limit.
    """

    kind: Kind
    arg: str | None = None
    share: float = 1.0
    count: int | None = None
    items: int | None = None

    def number(self, default: float) -> float:
        return float(self.arg) if self.arg else default


def parse_fault(text: str) -> tuple[Kind, str | None]:
    """``KIND`` or ``KIND=ARG`` as the command line has it."""
    name, separator, arg = text.partition("=")
    return Kind(name), arg if separator else None


class FaultPlan:
    """Decides call by call whether the fault in force strikes; seeded, so a run can be repeated."""

    def __init__(self, fault: Fault | None, seed: int = 0) -> None:
        self.fault = fault
        self._chance = random.Random(seed)
        self._seen = 0
        self._struck = 0

    def strike(self) -> Fault | None:
        """The fault that hits this call, if any."""
        fault = self.fault
        if fault is None or (fault.count is not None and self._struck >= fault.count):
            return None
        self._seen += 1
        if fault.kind is Kind.FLAPPING:
            period = max(1, int(fault.number(5)))
            return fault if (self._seen - 1) // period % 2 == 0 else None
        if fault.share < 1 and self._chance.random() >= fault.share:
            return None
        self._struck += 1
        return fault

    def jitter_s(self, fault: Fault) -> float:
        return self._chance.uniform(0, fault.number(200) / 1000)


def refuse_by_status(fault: Fault) -> None:
    """Raises the refusal a status fault stands for; other faults pass."""
    if fault.kind in DETAILS:
        retry = {"Retry-After": fault.arg} if fault.kind is Kind.OVERLOADED and fault.arg else {}
        raise RefusedError(int(fault.kind), DETAILS[fault.kind], retry)
    if fault.kind is Kind.CIRCUIT_OPEN:
        raise RefusedError(503, _CIRCUIT_OPEN)
    if fault.kind is Kind.FLAPPING:
        raise RefusedError(503, DETAILS[Kind.UNAVAILABLE])
    if fault.kind is Kind.REDIRECT:
        raise RefusedError(307, "moved", {"Location": fault.arg or "/v1/forecast?followed=1"})


def refuse_poison(fault: Fault, series: list[dict[str, Any]]) -> None:
    """One series over the limit fails the whole call, as one bad series really does."""
    limit = fault.number(100.0)
    for index, one in enumerate(series):
        if max(map(abs, one["target"])) > limit:
            raise RefusedError(400, _poison_detail(fault.kind, index))


def _poison_detail(kind: Kind, index: int) -> Any:
    if kind is Kind.POISONED_BLIND:
        return {"code": "BAD_REQUEST", "message": "input is not supported by the model"}
    message = "target holds a value the model does not support"
    loc = ["body", "series", index]
    return [{"type": "value_error", "loc": loc, "msg": f"Value error, {message}", "input": None}]


def spoil(fault: Fault, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with its first ``items`` forecasts spoiled; unchanged by faults of other kinds."""
    spoiler = SPOILERS.get(fault.kind)
    if spoiler is None:
        return answer
    forecasts = answer["forecasts"]
    cut = len(forecasts) if fault.items is None else fault.items
    return {**answer, "forecasts": [*spoiler(forecasts[:cut], fault), *forecasts[cut:]]}


def _nan_values(forecasts: list[Forecast], _fault: Fault) -> list[Forecast]:
    def hollow(path: list[float]) -> list[float | None]:
        return [*path[:-1], None]

    return [
        {**f, "quantiles": {q: hollow(path) for q, path in (f["quantiles"] or {}).items()}}
        for f in forecasts
    ]


def _missing_quantile(forecasts: list[Forecast], _fault: Fault) -> list[Forecast]:
    return [{**f, "quantiles": dict(list((f["quantiles"] or {}).items())[:-1])} for f in forecasts]


def _wrong_horizon(forecasts: list[Forecast], fault: Fault) -> list[Forecast]:
    extra = int(fault.number(-1))

    def resize(path: list[float]) -> list[float]:
        return path + path[-1:] * extra if extra > 0 else path[:extra]

    return [
        {**f, "mean": resize(f["mean"])}
        | {"quantiles": {q: resize(path) for q, path in (f["quantiles"] or {}).items()}}
        for f in forecasts
    ]


def _crossed(forecasts: list[Forecast], _fault: Fault) -> list[Forecast]:
    return [
        {
            **f,
            "quantiles": dict(zip(f["quantiles"], reversed(f["quantiles"].values()), strict=True)),
        }
        for f in forecasts
    ]


def _swapped_ids(forecasts: list[Forecast], _fault: Fault) -> list[Forecast]:
    ids = [f["id"] for f in forecasts]
    moved = [*ids[1:], ids[0]] if len(ids) > 1 else [f"not-{name}" for name in ids]
    return [{**f, "id": name} for f, name in zip(forecasts, moved, strict=True)]


SPOILERS: Mapping[Kind, Callable[[list[Forecast], Fault], list[Forecast]]] = {
    Kind.NAN_VALUES: _nan_values,
    Kind.MISSING_QUANTILE: _missing_quantile,
    Kind.QUANTILES_NULL: lambda forecasts, _: [{**f, "quantiles": None} for f in forecasts],
    Kind.WRONG_HORIZON: _wrong_horizon,
    Kind.CROSSED: _crossed,
    Kind.SWAPPED_IDS: _swapped_ids,
    Kind.MISSING_ID: lambda forecasts, _: [
        {name: value for name, value in f.items() if name != "id"} for f in forecasts
    ],
    Kind.MISSING_SERIES: lambda _forecasts, _: [],
    Kind.DUPLICATE_IDS: lambda forecasts, _: [{**f, "id": forecasts[0]["id"]} for f in forecasts],
}


# On the wire


@dataclass(frozen=True, slots=True)
class Reply:
    """A response before it is sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


async def deliver(reply: Reply, fault: Fault | None, scope: Scope, send: Send) -> None:
    """Sends the reply, spoiled on the way when the fault is one of the wire."""
    if fault is None or reply.status != 200:
        await _whole(reply, send)
    elif spoil := _SPOILED.get(fault.kind):
        await _whole(replace(reply, body=spoil(reply.body, fault)), send)
    else:
        await _WAYS.get(fault.kind, _as_it_is)(reply, fault, scope, send)


@lru_cache(maxsize=1)
def gzip_bomb(size_mb: int) -> bytes:
    """A gzip stream of about a thousandth of ``size_mb`` that inflates to it: JSON and spaces.

    One block of spaces is deflated once and repeated: a full flush ends on a byte boundary and
    forgets the history, so the copies can stand side by side in one stream.
    """
    start, end = b'{"model":"mock","forecasts":[', b"]}"
    blank = b" " * (16 * MB)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    middle = packer.compress(blank) + packer.flush(zlib.Z_FULL_FLUSH)
    tail = packer.compress(end) + packer.flush(zlib.Z_FINISH)
    repeats = max(1, size_mb // 16)
    check, length = zlib.crc32(start), len(start) + repeats * len(blank) + len(end)
    for _ in range(repeats):
        check = zlib.crc32(blank, check)
    trailer = struct.pack("<II", zlib.crc32(end, check), length & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + head + middle * repeats + tail + trailer


async def _whole(reply: Reply, send: Send) -> None:
    await _start(reply, send, len(reply.body))
    await send({"type": "http.response.body", "body": reply.body})


async def _start(reply: Reply, send: Send, length: int | None) -> None:
    headers = {"content-type": reply.content_type, **reply.headers}
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


async def _drops(body: bytes, seconds: float, count: int = 100) -> AsyncIterator[bytes]:
    size = max(1, -(-len(body) // count))
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(seconds / count)


async def _flood(size_mb: int) -> AsyncIterator[bytes]:
    yield b'{"model":"mock","forecasts":['
    for _ in range(size_mb):
        yield b" " * MB
    yield b"]}"


async def _as_it_is(reply: Reply, _fault: Fault, _scope: Scope, send: Send) -> None:
    await _whole(reply, send)


async def _web_page(reply: Reply, _fault: Fault, _scope: Scope, send: Send) -> None:
    await _whole(Reply(200, _PAGE, reply.headers, "text/html"), send)


async def _bomb(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    await _whole(Reply(200, gzip_bomb(int(fault.number(1100))), headers), send)


async def _drip(reply: Reply, fault: Fault, _scope: Scope, send: Send) -> None:
    await _streamed(reply, _drops(reply.body, fault.number(10)), send, len(reply.body))


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
    """Half the promised body, then a TCP reset instead of a tidy end."""
    half = reply.body[: len(reply.body) // 2]
    await _start(reply, send, len(reply.body))
    await send({"type": "http.response.body", "body": half, "more_body": True})
    await asyncio.sleep(0.02)  # let the first half leave: a reset throws away what is queued
    reset(TRANSPORTS[scope["client"]])


_SPOILED: Mapping[Kind, Callable[[bytes, Fault], bytes]] = {
    Kind.TRUNCATED_JSON: lambda body, _: body[: len(body) // 2],
    Kind.NAN_VALUES: lambda body, fault: body.replace(
        b"null]", _SPELLINGS[fault.arg or "null"] + b"]"
    ),
    Kind.BAD_UTF8: lambda body, _: body.replace(b'"id":"', b'"id":"\xff'),
}
_WAYS: Mapping[Kind, Callable[[Reply, Fault, Scope, Send], Awaitable[None]]] = {
    Kind.WRONG_CONTENT_TYPE: _web_page,
    Kind.GZIP_BOMB: _bomb,
    Kind.SLOW_DRIP: _drip,
    Kind.HUGE_ANSWER: _huge,
    Kind.ENDLESS_CHUNKS: _endless,
    Kind.ANSWERED_TWICE: _twice,
    Kind.RESET_MID_BODY: _reset,
}


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes with a TCP reset: queued data is lost. asyncio has no method for it."""
    if transport.is_closing():
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
