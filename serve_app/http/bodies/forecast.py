"""Parsing of one forecast request of any length, and of a batch, item by item.

A short body is parsed in one pass. In a long body every long list is parsed separately, in parts,
and the rest of the body with one or two placeholder values in each of these lists:

    {"market_id":"m",...,"y":[0.41,0.42,...],"x_past":{"volume":[...]}}
    {"market_id":"m",...,"y":[0,0],"x_past":{"volume":[0]}}

Of an item of a batch only the request, or at most ten errors, are kept: the parser's intermediate
objects are many times its size.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from runner.config.loading import Config
from runner.config.sections import RequestSection
from runner.errors import BodyTooLargeError, InvalidRequestError, RequestError
from runner.pacer import Pacer
from runner.types import ForecastRequest
from serve_app.http.bodies.json_items import WINDOW_BYTES, Brackets, cut_body
from serve_app.http.errors import Described, describe, of_part
from serve_app.http.requests import (
    AT_ONCE_BYTES,
    BatchBody,
    ForecastBody,
    Numbers,
    Observed,
    Times,
    field_path,
    series_steps,
    to_request,
)

LONG_LIST_BYTES = 1024
PART_BYTES = 16 * 1024
MAX_OPEN = 1000  # opening brackets; a request needs 40, the rest may be inside names
MAX_NAME_BYTES = 2048  # 128 characters, each perhaps two escapes of six bytes, and blanks
TOO_MANY = "There are too many lists and objects for a request."
# A name and a colon, read backwards from a bracket: a search forwards would start at every quote.
# Inside a name a quote has an odd number of backslashes before it; longer names are refused anyway.
_NAME = re.compile(rb'\s{0,99}:\s{0,99}("[^"]*(?:"(?=(?:\\\\)*\\(?!\\))[^"]*){0,128}")')
_TIME = b'"2000-01-01T00:00:00Z"'
# By field: the pydantic model of its list, and the placeholder values.
_LISTS: dict[str, tuple[TypeAdapter[Any], bytes]] = {
    "y": (TypeAdapter(Observed), b"0,0"),
    "y_ts": (TypeAdapter(Times), b"%b,%b" % (_TIME, _TIME)),
    "x_past": (TypeAdapter(Numbers), b"0"),
    "x_future": (TypeAdapter(Numbers), b"0"),
}

_NAMED = ("x_past", "x_future")

Parsed = ForecastRequest | Described
Path = tuple[str, ...]  # of a list: its field, and the covariate's name


class _Found(NamedTuple):
    path: Path
    begin: int  # after its bracket
    end: int  # before its bracket


async def parse_forecast(body: bytes, limits: RequestSection, pacer: Pacer) -> ForecastBody:
    """Parses one request.

    Raises:
        InvalidRequestError: it exceeds a limit, or a long list is wrong.
        InvalidJsonError: a long list is not JSON.
        ValidationError: the rest is not a request.
    """
    if len(body) > AT_ONCE_BYTES:
        return await _parse_long(body, limits, pacer)
    if body.count(b"[") + body.count(b"{") > MAX_OPEN:
        raise InvalidRequestError("", TOO_MANY)
    return ForecastBody.model_validate_json(body)


async def _parse_long(body: bytes, limits: RequestSection, pacer: Pacer) -> ForecastBody:
    lists = await _long_lists(body, pacer)
    if len(lists) > 2 + 2 * limits.max_covariates:
        raise InvalidRequestError("", TOO_MANY)
    wire = ForecastBody.model_validate_json(_rest(body, lists))
    read: dict[str, Any] = {}
    for found in lists:
        values = await _values(body[found.begin : found.end], found.path, limits, pacer)
        field, name = found.path[0], found.path[-1]
        if field in _NAMED:
            read.setdefault(field, dict(getattr(wire, field) or {}))[name] = values
        else:
            read[field] = values
    return wire.model_copy(update=read)


async def _long_lists(body: bytes, pacer: Pacer) -> list[_Found]:
    """The long lists in fields where a request may have long lists."""
    brackets, places, steps = Brackets(), list[int](), list[int]()
    for at in range(0, len(body), WINDOW_BYTES):
        found, _, up_or_down = brackets.find(body, at)
        places += found.tolist()
        steps += up_or_down.tolist()
        if len(places) > 2 * MAX_OPEN:
            raise InvalidRequestError("", TOO_MANY)
        await pacer.rest()
    lists = _lists_in(body, places, steps)
    return [x for x in lists if x.end - x.begin > LONG_LIST_BYTES and _may_be_long(x.path)]


def _lists_in(body: bytes, places: list[int], steps: list[int]) -> Iterator[_Found]:
    """Every list that contains no list or object."""
    names: list[str] = []  # of the open objects and lists
    for i, (place, step) in enumerate(zip(places, steps, strict=True)):
        if step < 0:
            names[-1:] = []
            continue
        before = body[max(places[i - 1] if i else 0, place - MAX_NAME_BYTES) : place]
        names.append("")
        if name := _NAME.match(before[::-1]):
            with suppress(orjson.JSONDecodeError):  # the parser of the rest reports it
                names[-1] = orjson.loads(name[1][::-1])
        if body[place : place + 1] == b"[" and steps[i + 1 : i + 2] == [-1]:
            yield _Found(tuple(names[1:]), place + 1, places[i + 1])


def _may_be_long(path: Path) -> bool:
    return path in (("y",), ("y_ts",)) or (len(path) == 2 and path[0] in _NAMED and path[1] != "")


def _rest(body: bytes, lists: list[_Found]) -> bytes:
    """The body with placeholder values in each of the lists."""
    parts, last = list[bytes](), 0
    for found in lists:
        parts += [body[last : found.begin], _LISTS[found.path[0]][1]]
        last = found.end
    parts.append(body[last:])
    if sum(map(len, parts)) > AT_ONCE_BYTES:
        raise InvalidRequestError("", "No more than y, y_ts, x_past and x_future may be long.")
    return b"".join(parts)


async def _values(text: bytes, path: Path, limits: RequestSection, pacer: Pacer) -> list[Any]:
    """The values of a list, from the text between its brackets."""
    if text.count(b",") >= limits.max_points:
        raise InvalidRequestError(field_path(path), f"Send at most {limits.max_points} values.")
    model, values = _LISTS[path[0]][0], list[Any]()
    for part in _parts(text):
        if not part.strip() or len(part) > AT_ONCE_BYTES:
            raise InvalidRequestError(field_path((*path, len(values))), "Send a value.")
        try:
            values += model.validate_json(b"[%b]" % part)
        except ValidationError as error:
            raise of_part(error, *path, first=len(values)) from error
        await pacer.rest()
    return values


def _parts(text: bytes) -> Iterator[bytes]:
    """The text, split at commas outside of strings."""
    last = 0
    while last <= len(text):
        end = text.find(b",", last + PART_BYTES)
        if text.count(b'"', last, end) % 2:
            end = text.find(b",", text.find(b'"', end))
        end = len(text) if end < 0 else end
        yield text[last:end]
        last = end + 1


class BatchReader:
    """The items of a batch, read one after the other, so that the first may be computed meanwhile.

    ``steps`` is the cost (`series_steps`) of the ``items`` that were read so far, ``took_s`` the
    time that this took.
    """

    def __init__(
        self,
        texts: Iterator[bytes],
        config: Config,
        pacer: Pacer,
        clock: Callable[[], float],
        newest_steps: int,
    ) -> None:
        self._texts = texts
        self._config = config
        self._pacer = pacer
        self._clock = clock
        self._newest_steps = newest_steps
        self.items = 0
        self.steps = 0
        self.took_s = 0.0

    async def __aiter__(self) -> AsyncIterator[tuple[int, Parsed]]:
        """The request, or the error, of each item, with its number from 0."""
        for number, text in enumerate(self._texts):
            began = self._clock()
            try:
                item: Parsed = await self._read(text)
            except (RequestError, ValidationError) as error:
                item = describe(error)
            await self._pacer.rest()
            self.items += 1
            self.took_s += self._clock() - began
            yield number, item

    async def _read(self, text: bytes) -> ForecastRequest:
        limits = self._config.request
        if len(text) > limits.max_body_bytes:
            raise BodyTooLargeError(limits.max_body_bytes)
        wire = await parse_forecast(text, limits, self._pacer)
        self.steps += series_steps(wire, limits)
        await self._pacer.rest()
        if wire.deadline_ms is not None:
            raise InvalidRequestError("deadline_ms", "Set it once, for the whole batch.")
        return to_request(wire, self._config, self._newest_steps)


async def open_batch(
    body: bytes,
    config: Config,
    pacer: Pacer,
    clock: Callable[[], float],
    newest_steps: int = 0,
) -> tuple[BatchReader, float | None]:
    """The reader of the items, and the deadline in the body; ``newest_steps`` as in `to_request`.

    Raises:
        RequestError, ValidationError: the body as a whole is not a batch.
    """
    most = config.request.max_batch_requests
    envelope, texts = await cut_body(body, "requests", BatchBody, most, pacer)
    return BatchReader(texts, config, pacer, clock, newest_steps), envelope.deadline_ms
