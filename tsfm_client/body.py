"""Makes the JSON object of a request from lists, numpy or pandas, with or without times.

pandas is recognised by attributes of its series, and never imported.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TypedDict, Unpack

import numpy as np

Moment = datetime | str | float | np.datetime64
_NUMBERS = (int, float, np.integer, np.floating)


class Options(TypedDict, total=False):
    """Optional fields of a request; docs/api.md explains each, and its default.

    ``times``, ``as_of`` and ``closes_at`` are datetimes, ISO-8601 texts, numpy datetimes or POSIX
    seconds; UTC if they have no zone. ``model`` is the wire's ``model.model_name``; ``deadline_ms``
    is sent as a header. ``levels``, ``as_of`` and ``times`` may also have the wire's names:
    ``quantiles``, ``as_of_ts`` and ``y_ts``.
    """

    as_of: Moment
    times: Iterable[Any]
    freq: str
    horizon_steps: int
    newest_steps: int
    levels: Iterable[float]
    thresholds: Iterable[float]
    closes_at: Moment
    model: str
    conformal: bool
    observe: bool
    bands: Mapping[str, float]
    liquidity_bucket: str
    max_gap_minutes: float
    x_past: Mapping[str, Any]
    x_future: Mapping[str, Any]
    deadline_ms: float | None
    quantiles: Iterable[float]
    as_of_ts: Moment
    y_ts: Iterable[Any]


_WIRE_NAMES = {"quantiles": "levels", "as_of_ts": "as_of", "y_ts": "times"}
_SCALARS = ("freq", "horizon_steps", "newest_steps", "conformal", "observe", "liquidity_bucket")
_AS_IT_IS = (*_SCALARS, "max_gap_minutes", "bands")


def request_body(market_id: str, y: Any, **options: Unpack[Options]) -> dict[str, Any]:
    """The JSON object of a request.

    ``y`` are probabilities, oldest first, NaN or None where there is none: a list, an array, or a
    pandas Series, whose DatetimeIndex gives the times. With times, ``as_of`` is the last one, and
    ``freq`` their usual distance, where they are not given. ValueError: the time of the last
    value is missing, or a value is not a finite number. TypeError: there is no such option.

    >>> body = request_body("m-1", [0.4, None], times=["2026-02-20T12:00Z", "2026-02-20T12:15Z"])
    >>> body["y"], body["as_of_ts"], body["freq"]
    ([0.4, None], '2026-02-20T12:15:00+00:00', '15m')
    """
    given = _known(options)
    index = getattr(y, "index", None)  # of a list a method, of pandas perhaps numbers
    times = given.get("times", index if hasattr(index, "tz") else None)
    moments = [] if times is None else [to_moment(moment) for moment in times]
    body: dict[str, Any] = {"market_id": market_id, "y": _values("y", y)}
    if moments:
        body["y_ts"] = [moment.isoformat() for moment in moments]
        given = {"as_of": moments[-1], "freq": usual_freq(moments)} | given
    if "as_of" not in given:
        raise ValueError("as_of is needed: the values come without times")
    body["as_of_ts"] = to_moment(given["as_of"]).isoformat()
    body |= {name: given[name] for name in _AS_IT_IS if given.get(name) is not None}
    if "levels" in given:
        body["quantiles"] = [float(level) for level in given["levels"]]
    if "thresholds" in given:
        body["thresholds"] = [float(price) for price in given["thresholds"]]
    if "closes_at" in given:
        body["closes_at"] = to_moment(given["closes_at"]).isoformat()
    if "model" in given:
        body["model"] = {"model_name": given["model"]}
    for name in {"x_past", "x_future"} & given.keys():
        body[name] = {k: _values(f"{name}.{k}", v) for k, v in given[name].items()}
    return body


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in Options.__annotations__:
            near = get_close_matches(name, Options.__annotations__, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"there is no option {name}{hint}")
    given = {_WIRE_NAMES.get(name, name): value for name, value in options.items()}
    if len(given) < len(options):
        raise TypeError("an option was given by both of its names")
    return given


def to_moment(value: Any) -> datetime:
    """A point in time; UTC if it has no zone."""
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    elif isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, _NUMBERS):
        try:
            value = datetime.fromtimestamp(float(value), UTC)
        except (ValueError, OverflowError, OSError) as exc:
            raise ValueError(f"{value:g} is no time; POSIX times are in seconds") from exc
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r} is no time")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def usual_freq(moments: Sequence[datetime]) -> str | None:
    """The median distance in whole minutes, as ``<n>m``, ``<n>h`` or ``<n>d``.

    Times may be some seconds late: None if the distance is not within a tenth of whole minutes.
    """
    seconds = np.diff([moment.timestamp() for moment in moments])
    step_s = float(np.median(seconds)) if seconds.size else 0.0
    minutes = round(step_s / 60)
    if minutes < 1 or abs(step_s - 60 * minutes) > 0.1 * step_s:
        return None
    for unit, unit_minutes in (("m", 1), ("h", 60), ("d", 1440)):
        count, rest = divmod(minutes, unit_minutes)
        if rest == 0 and count <= 9999:
            return f"{count}{unit}"
    return None


def _values(name: str, values: Any) -> list[float | None]:
    try:
        array = np.asarray(list(values), dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{name} must hold numbers, and None or NaN where there is none") from exc
    if array.ndim != 1 or np.isinf(array).any():
        raise ValueError(f"{name} must be one row of finite numbers")
    return [None if np.isnan(value) else value for value in array.tolist()]
