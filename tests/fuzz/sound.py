"""Requests that keep every rule at its very edge: each must get a valid forecast."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.shots import BATCH_PATH, FORECAST_PATH, JSON, MARKER, Shot, dumps

_PROBABILITIES = st.one_of(
    st.sampled_from([0, 1, 0.0, 1.0, -0.0, 5e-324, 1e-300, 1e-17, 1e-6, 1 - 1e-16, 0.5, 0.999999]),
    st.floats(0, 1),
)
_LEVELS = st.one_of(st.sampled_from([1e-6, 0.999999, 0.5]), st.floats(1e-6, 1 - 1e-6))
_HUGE = st.one_of(
    st.sampled_from([1e308, -1e308, 0.0, 5e-324, 1.7976931348623157e308]), st.floats()
)
_MODELS = ("chronos", "fracast-0", "mock", "timesfm", "lag-llama", "granite", "toto")


@st.composite
def series(draw: st.DrawFn) -> list[float | None]:
    """Two values or more, at times repeated until a model takes them."""
    values: list[float | None] = draw(st.lists(_PROBABILITIES, min_size=2, max_size=20))
    if draw(st.booleans()):
        values = values * draw(st.integers(1, 20))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(values)))
        values[at:at] = [None] * draw(st.integers(1, 30))
    return values


def _times(draw: st.DrawFn, end: datetime, count: int) -> list[str]:
    steps = draw(st.lists(st.sampled_from([1, 60, 299, 300, 301, 86_400]), min_size=1, max_size=9))
    back = [steps[i % len(steps)] for i in range(count - 1)]
    moments = [end]
    for step in back:
        moments.append(moments[-1] - timedelta(seconds=step))
    return [moment.isoformat() for moment in reversed(moments)]


def _covariates(draw: st.DrawFn, points: int, horizon: int) -> dict[str, Any]:
    finite = _HUGE.filter(lambda x: abs(x) <= 1.7976931348623157e308)  # also False for NaN
    few = draw(st.lists(finite, min_size=1, max_size=4))
    names = draw(st.lists(st.sampled_from(["volume", MARKER, "é", "\x00", "id"]), unique=True))
    past = {name: [few[i % len(few)] for i in range(points)] for name in names}
    future = {name: [few[i % len(few)] for i in range(horizon)] for name in names[:1]}
    return {"x_past": past, "x_future": future}


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    y = draw(series())
    end = draw(st.datetimes(datetime(1750, 1, 1), datetime(2250, 1, 1)))  # noqa: DTZ001 - zone follows
    end = end.replace(tzinfo=UTC)
    horizon = draw(st.one_of(st.integers(1, 24), st.just(512)))
    body: dict[str, Any] = {
        "market_id": draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=128)),
        "as_of_ts": end.isoformat(),
        "y": y,
        "horizon_steps": horizon,
        "quantiles": sorted(draw(st.sets(_LEVELS, min_size=1, max_size=5 if horizon > 24 else 21))),
        "freq": draw(st.sampled_from(["1m", "5m", "1h", "1d", "7m", "999m"])),
        "transform": {
            "space": draw(st.sampled_from(["logit", "identity"])),
            "eps": draw(st.sampled_from([1e-12, 1e-6, 0.1, 0.49999999999999994])),
        },
        "model": {"model_name": draw(st.sampled_from(_MODELS))},
        "max_gap_minutes": draw(st.sampled_from([0, 5, 1e308])),
        "conformal": draw(st.sampled_from([True, False, None])),
    }
    if draw(st.booleans()):
        body["y_ts"] = _times(draw, end, len(y))
    if draw(st.integers(0, 3)) == 0:
        body |= _covariates(draw, len(y), horizon)
    return body


@st.composite
def sound(draw: st.DrawFn) -> Shot:
    """One request, or a few in a batch."""
    if draw(st.integers(0, 4)):
        body = draw(bodies())
        if draw(st.integers(0, 5)) == 0:
            body["deadline_ms"] = draw(st.sampled_from([5e-324, 0.001, 1e308]))
        return Shot(FORECAST_PATH, (dumps(body),), JSON, is_sound=True)
    whole = {"requests": draw(st.lists(bodies(), max_size=4))}
    accept = (b"Accept", draw(st.sampled_from([b"*/*", b"application/x-ndjson"])))
    return Shot(BATCH_PATH, (dumps(whole),), (*JSON, accept), is_sound=True)
