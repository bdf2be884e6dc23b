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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from runner.errors import BatchTooLongError, InvalidJsonError, InvalidRequestError
from runner.pacer import Pacer
from serve_app.http.requests import AT_ONCE_BYTES, StrictBody

WINDOW_BYTES = 64 * 1024  # 0.1 ms of work, 3 ms where every byte is a bracket
_IS_SEEN = bytes(byte in b'"{}[]' for byte in range(256))
_STEPS = np.zeros(256, dtype=np.int8)  # change of depth, by byte value
_STEPS[list(b"{[")] = 1
_STEPS[list(b"}]")] = -1

Places = NDArray[np.int64]
_GAP = rb"\s{0,99}+"
_NUMBERS = rb'(?:"[a-z_]{1,64}"G:G[-+.\w]{1,400}G,G){0,4}'  # fields before the list
_HEAD = (rb"G\{G" + _NUMBERS + rb'"%b"G:G\[').replace(b"G", _GAP)

B = TypeVar("B", bound=StrictBody)
Span = tuple[int, int]  # start and end of an item
NO_OBJECT: Span = (0, 0)  # a number, a string, null


async def cut_body(
    body: bytes, name: str, model: type[B], most: int, pacer: Pacer
) -> tuple[B, Iterator[bytes]]:
    """The body with an empty list ``name``, and the text of each item: null if it is no object.

    Raises:
        BatchTooLongError: there are more than ``most`` items.
        InvalidJsonError: brackets or commas are not placed as in JSON.
        InvalidRequestError, ValidationError: the body is not an object with that list.
    """
    head = re.match(_HEAD % name.encode(), body)
    if head is None:
        body = _reordered(body, name, model)
        head = re.match(_HEAD % name.encode(), body)
    assert head is not None
    spans, end = await _cut(body, head.end(), name, most, pacer)
    if len(body) - end > AT_ONCE_BYTES:
        raise InvalidRequestError(name, "There is too much behind the list.")
    envelope = model.model_validate_json(body[: head.end()] + body[end:])
    if getattr(envelope, name):
        raise InvalidRequestError(name, "Send it once.")
    return envelope, (body[begin:end] or b"null" for begin, end in spans)


def _reordered(body: bytes, name: str, model: type[StrictBody]) -> bytes:
    """A small body with other fields or spacing before the list, rewritten with the list first."""
    if len(body) > AT_ONCE_BYTES:
        raise InvalidRequestError(name, "Begin the body with this list.")
    try:
        fields = from_json(body)
    except ValueError as exc:
        raise InvalidJsonError from exc
    if not isinstance(fields, dict) or not isinstance(fields.get(name), list):
        model.model_validate_json(body)  # raises
    return json.dumps({name: fields.pop(name), **fields}).encode()


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
                if body[here : here + 1] != b"]":
                    raise InvalidJsonError
                return spans, here
        await pacer.rest()
    raise InvalidJsonError


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


class Brackets:
    """Tracks depth and strings from window to window; the depth is 0 at the start."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def outermost(self, body: bytes, at: int) -> Iterator[tuple[int, int]]:
        """The brackets of the window at ``at`` after which the depth is 1, 0 again, or below 0.

        Each with its position in the body and the depth after it.
        """
        places, depths, steps = self.find(body, at)
        chosen = (steps > 0) & (depths == 1) | (steps < 0) & (depths <= 0)
        return zip(places[chosen].tolist(), depths[chosen].tolist(), strict=True)

    def find(self, body: bytes, at: int) -> tuple[Places, Places, Places]:
        """All brackets of the window at ``at``: positions, depths after them, changes of depth."""
        window = body[at : at + WINDOW_BYTES]
        if self._is_escaped or b"\\" in window:
            window = self._without_escapes(window)
        places = np.flatnonzero(np.frombuffer(window.translate(_IS_SEEN), dtype=np.bool_))
        found = np.frombuffer(window, dtype=np.uint8)[places]
        in_string = np.logical_xor.accumulate(found == ord('"')) ^ self._in_string
        steps = np.where(in_string, 0, _STEPS[found])
        depths = self._depth + np.cumsum(steps)
        if len(places):
            self._in_string, self._depth = bool(in_string[-1]), int(depths[-1])
        is_bracket = steps != 0
        return at + places[is_bracket], depths[is_bracket], steps[is_bracket]

    def _without_escapes(self, window: bytes) -> bytes:
        """The window with escapes replaced, at the same length."""
        if self._is_escaped:
            window = b"_" + window[1:]
        window = window.replace(rb"\\", b"__").replace(rb"\"", b"__")
        self._is_escaped = window.endswith(b"\\")
        return window
