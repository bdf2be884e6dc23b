"""Finds the start and end of each item of a list in a JSON body, without parsing the items.

    {"requests": [ {...}, {...} ], "deadline_ms": 900}
    `-- head ----' `- items -----' `-- tail ---------'

Brackets outside of strings are counted in windows of the body, and other requests may run after
each window; then every item can be parsed by itself. The text between brackets is checked by the
parser.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic_core import from_json

from runner.errors import BatchTooLongError, InvalidJsonError, InvalidRequestError
from runner.pacer import Pacer
from serve_app.http.bodies.json_brackets import WINDOW_BYTES, Brackets
from serve_app.http.body import AT_ONCE_BYTES
from serve_app.http.requests import StrictBody

_GAP = rb"\s{0,99}+"
_NUMBERS = rb'(?:"[a-z_]{1,64}"G:G[-+.\w]{1,400}G,G){0,4}'  # fields before the list
_HEAD = (rb"G\{G" + _NUMBERS + rb'"%b"G:G\[').replace(b"G", _GAP)

Span = tuple[int, int]  # start and end of an item
NO_OBJECT: Span = (0, 0)  # a number, a string, null


@dataclass(frozen=True, slots=True)
class CutBody:
    """A body and the positions of its items.

    Attributes:
        envelope: the body with an empty list.
        spans: start and end of each item.
    """

    body: bytes
    envelope: bytes
    spans: list[Span]

    def items(self) -> Iterator[bytes]:
        """The text of each item; null for an item that is not an object."""
        return (self.body[begin:end] or b"null" for begin, end in self.spans)


async def cut_body(
    body: bytes, name: str, loose: type[StrictBody], most: int, pacer: Pacer
) -> CutBody:
    """Splits the body into the items of its list ``name``.

    Args:
        body: UTF-8.
        name: of the field that holds the list.
        loose: the body's model, with items of any type.
        most: the largest number of items.
        pacer: yields to other requests.

    Raises:
        BatchTooLongError: there are more than ``most`` items.
        InvalidJsonError: brackets or commas are not placed as in JSON.
        InvalidRequestError, ValidationError: the body is not an object with that list.
    """
    head = _head(body, name)
    if head is None:
        body = _reordered(body, name, loose)
        head = _head(body, name)
    assert head is not None
    spans, end = await _cut(body, head, name, most, pacer)
    if len(body) - end > AT_ONCE_BYTES:
        raise InvalidRequestError(name, "There is too much behind the list.")
    return CutBody(body, body[:head] + body[end:], spans)


def _head(body: bytes, name: str) -> int | None:
    """The start of the list in a body that has only numbers before it."""
    match = re.match(_HEAD % name.encode(), body)
    return match.end() if match else None


def _reordered(body: bytes, name: str, loose: type[StrictBody]) -> bytes:
    """A small body with other fields or spacing before the list, written in the usual form."""
    if len(body) > AT_ONCE_BYTES:
        raise InvalidRequestError(name, "Begin the body with this list.")
    return json.dumps(loose.model_validate_json(body).model_dump(exclude_unset=True)).encode()


async def _cut(
    body: bytes, start: int, name: str, most: int, pacer: Pacer
) -> tuple[list[Span], int]:
    """The items of the list that begins at ``start``, and the end of the list."""
    brackets, spans = Brackets(), list[Span]()
    begin = last = start
    for at in range(start, len(body), WINDOW_BYTES):
        for here, depth in brackets.outermost(body, at):
            if depth == 0:
                spans.append((begin, here + 1))
                last = here + 1
            else:
                between = body[last : min(here, last + AT_ONCE_BYTES + 1)]
                spans += _no_objects(between, name, is_first=last == start, is_last=depth < 0)
                begin = here
            if len(spans) > most:
                raise BatchTooLongError(most)
            if depth < 0:
                return spans, _end(body, here)
        await pacer.rest()
    raise InvalidJsonError


def _end(body: bytes, here: int) -> int:
    if body[here : here + 1] != b"]":
        raise InvalidJsonError
    return here


def _no_objects(between: bytes, name: str, *, is_first: bool, is_last: bool) -> list[Span]:
    """The items between two brackets that are not objects: usually none, only a comma."""
    if between.strip() == b"," and not is_first and not is_last:
        return []
    if len(between) > AT_ONCE_BYTES:
        raise InvalidRequestError(name, "Each item is an object.")
    neighbours = [b"" if is_first else b"null", b"" if is_last else b"null"]
    try:
        found = from_json(b"[%b%b%b]" % (neighbours[0], between, neighbours[1]))
    except ValueError as exc:
        raise InvalidJsonError from exc
    return [NO_OBJECT] * (len(found) - sum(map(bool, neighbours)))
