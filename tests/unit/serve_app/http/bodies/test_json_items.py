"""Lists in bodies are cut where a parser would, whatever stands in their strings."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from runner.errors import BatchTooLongError, InvalidJsonError, InvalidRequestError
from runner.pacer import Pacer
from serve_app.http.bodies import json_items
from serve_app.http.bodies.json_items import cut_body
from serve_app.http.requests import AT_ONCE_BYTES, BatchBody
from tests.support.fakes import FakeClock

_TEXT = st.text('{}[]",:\\ anu\u00e9', max_size=8)
_ANY = st.recursive(
    st.one_of(st.none(), st.integers(0, 9), _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=6,
)


async def cut(body: bytes, most: int = 2000) -> tuple[BatchBody, list[Any]]:
    envelope, texts = await cut_body(body, "requests", BatchBody, most, Pacer(FakeClock()))
    return envelope, [json.loads(text) for text in texts]


@pytest.fixture(params=[3, 7, json_items.WINDOW_BYTES])
def window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_items, "WINDOW_BYTES", request.param)
    return int(request.param)


@pytest.mark.parametrize("gap", [(",", ":"), (" ,\n", " : ")])
async def test_items_are_what_a_parser_finds(window: int, gap: tuple[str, str]) -> None:
    @settings(max_examples=60, database=None, deadline=None)
    @given(st.lists(_ANY, max_size=5), st.sampled_from([{}, {"deadline_ms": 5}]), st.booleans())
    def every_list(items: list[Any], more: dict[str, int], is_first: bool) -> None:
        parts = {"requests": items} | more if is_first else more | {"requests": items}
        body = json.dumps(parts, separators=gap).encode()
        envelope, found = run(cut(body))
        expected = [item if isinstance(item, dict | list) else None for item in items]
        assert found == expected
        assert envelope.model_dump(exclude_unset=True) == more | {"requests": []}

    every_list()


def run(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing but its turn."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"requests":[{},]}', b'{"requests":[{}{}]}', b'{"requests":[,{}]}', b'{"requests":[{}'),
        *(
            b'{"requests":[{}}}',
            b'{"requests":[{} 1]}',
            b'{"requests":[\xff]}',
            b'{"requests":["]}',
        ),
        b'{"requests":[',
    ],
)
async def test_list_that_is_no_json_is_refused(window: int, body: bytes) -> None:
    with pytest.raises(InvalidJsonError):
        await cut(body)


async def test_list_is_left_at_the_first_item_too_many() -> None:
    with pytest.raises(BatchTooLongError):
        await cut(b'{"requests":[' + b"{}," * 3 + b"nothing behind is looked at", most=2)
    with pytest.raises(BatchTooLongError):
        await cut(b'{"requests":[1,1,1]}', most=2)
    assert (await cut(b'{"requests":[{},{}]}', most=2))[1] == [{}, {}]


async def test_small_body_of_an_unusual_spelling_is_taken() -> None:
    envelope, found = await cut(b'{"deadline_ms":7,"\\u0072equests":[{"a":1}]}')

    assert found == [{"a": 1}]
    assert envelope.deadline_ms == 7


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":{},"requests":[]}',
        b'{"requests":{}}',
        b"[]",
        b"",
    ],
)
async def test_body_without_the_list_is_refused_by_its_model(body: bytes) -> None:
    with pytest.raises((ValidationError, InvalidJsonError)):
        await cut(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a":{}%b,"requests":[]}' % (b" " * AT_ONCE_BYTES), "Begin the body"),
        (b'{"requests":[]%b}' % (b" " * AT_ONCE_BYTES), "behind the list"),
        (b'{"requests":["%b"]}' % (b"x" * AT_ONCE_BYTES), "Each item is an object"),
    ],
)
async def test_long_parts_around_the_items_are_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        await cut(body)
