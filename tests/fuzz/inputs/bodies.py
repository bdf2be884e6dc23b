"""Bodies to start from, and the ways to plant bytes in them or spoil them."""

import json
from typing import Any

from hypothesis import strategies as st

from serve_app.http.openapi.examples import FORECAST, REQUESTS
from tests.fuzz.shots import BATCH_PATH, FORECAST_PATH, MARKER

Json = Any
Target = tuple[str, bytes]  # path and body
HOLE = '"@hole@"'
_MARKED: dict[str, Json] = {
    **FORECAST,
    "market_id": MARKER,
    "liquidity_bucket": MARKER,
    "max_gap_minutes": 30,
    "deadline_ms": 900,
    "model": {
        "model_name": "chronos",
        "model_version": MARKER,
        "params": {MARKER: MARKER, "n": 1},
    },
}
_UNKNOWN: dict[str, Json] = {**FORECAST, "model": {"model_name": MARKER}}
_COVARIATES: dict[str, Json] = {
    **REQUESTS["covariates"]["value"],
    "x_past": {MARKER: [1.0, 2.0, 3.0, 4.0]},
    "x_future": {MARKER: [1.0, 2.0]},
}
SINGLES = (_MARKED, _UNKNOWN, _COVARIATES, REQUESTS["short"]["value"])
BATCHES: tuple[dict[str, Json], ...] = (
    {"requests": [_MARKED, _UNKNOWN], "deadline_ms": 900},
    {"requests": [_COVARIATES]},
    {"requests": []},
)


def dumps(value: Json) -> bytes:
    """As text that may hold NaN, and halves of surrogates as escapes."""
    return json.dumps(value, separators=(",", ":")).encode()


def values() -> st.SearchStrategy[tuple[str, Json]]:
    """A path and what may be sent there, as a value."""
    singles = [(FORECAST_PATH, value) for value in SINGLES]
    return st.sampled_from(singles * 2 + [(BATCH_PATH, value) for value in BATCHES])


def targets() -> st.SearchStrategy[Target]:
    return values().map(lambda target: (target[0], dumps(target[1])))


def places(value: Json, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value can be replaced; of a long list the first few places are enough."""
    found = [so_far]
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value[:3])) if isinstance(value, list) else []
    for key, part in inner:
        found += places(part, (*so_far, key))
    return found


def replaced(value: Json, place: tuple[Any, ...], new: Json) -> Json:
    """A copy with something else in one place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


@st.composite
def planted(draw: st.DrawFn, raw: st.SearchStrategy[bytes]) -> Target:
    """A body with raw bytes in place of one of its values."""
    path, value = draw(values())
    place = draw(st.sampled_from(places(value)))
    text = dumps(replaced(value, place, "@hole@"))
    return path, text.replace(HOLE.encode(), draw(raw))
