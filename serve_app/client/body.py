"""Series of any kind as the JSON object of a request: lists, numpy, pandas, with times or without.

pandas is recognised by what its series have, and imported nowhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

import numpy as np

Moment = datetime | str | float | np.datetime64
_NUMBERS = (int, float, np.integer, np.floating)


class Options(TypedDict, total=False):
    """What a request may say beside its values; docs/api.md explains each, and its default.

    ``times`` and ``as_of`` are datetimes, ISO-8601 texts, numpy datetimes or POSIX seconds; UTC
    where they name no zone. ``levels`` are the wire's ``quantiles``, ``model`` its
    ``model.model_name``.
    """

    as_of: Moment
    times: Iterable[Any]
    freq: str
    horizon_steps: int
    levels: Iterable[float]
    model: str
    conformal: bool
    liquidity_bucket: str
    max_gap_minutes: float
    x_past: Mapping[str, Any]
    x_future: Mapping[str, Any]


_SAME_NAME = ("freq", "horizon_steps", "conformal", "liquidity_bucket", "max_gap_minutes")


def request_body(market_id: str, y: Any, **options: Unpack[Options]) -> dict[str, Any]:
    """The JSON object of a request.

    Args:
        market_id: comes back as it is.
        y: probabilities, oldest first, NaN or None where there is none: a list, an array, or a
            pandas Series, whose DatetimeIndex gives the times.
        options: see there. With times, ``as_of`` is the last one, and ``freq`` their usual
            distance, where they are not given.

    Raises:
        ValueError: there is no time of the last value, or a value is no finite number.

    >>> body = request_body("m-1", [0.4, None], times=["2026-02-20T12:00Z", "2026-02-20T12:15Z"])
    >>> body["y"], body["as_of_ts"], body["freq"]
    ([0.4, None], '2026-02-20T12:15:00+00:00', '15m')
    """
    times = options.get("times", _index_of(y))
    body: dict[str, Any] = {"market_id": market_id, "y": _values("y", y)}
    moments = [to_moment(moment) for moment in times] if times is not None else []
    if moments:
        body["y_ts"] = [moment.isoformat() for moment in moments]
        body |= {"freq": freq} if (freq := usual_freq(moments)) else {}
    if "as_of" not in options and not moments:
        raise ValueError("as_of is needed: the values come without times")
    body["as_of_ts"] = to_moment(options.get("as_of", moments[-1:] and moments[-1])).isoformat()
    given: dict[str, Any] = {**options}
    body |= {name: given[name] for name in _SAME_NAME if name in given}
    if "levels" in given:
        body["quantiles"] = [float(level) for level in given["levels"]]
    if "model" in given:
        body["model"] = {"model_name": given["model"]}
    for name in ("x_past", "x_future"):
        if name in given:
            body[name] = {k: _values(f"{name}.{k}", v) for k, v in given[name].items()}
    return body


def to_moment(value: Any) -> datetime:
    """A point in time; UTC where no zone is named.

    >>> to_moment(1771588800).isoformat(), to_moment("2026-02-20T13:00+01:00").hour
    ('2026-02-20T12:00:00+00:00', 13)
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    elif isinstance(value, str):
        value = datetime.fromisoformat(value)
    elif isinstance(value, _NUMBERS):
        value = _from_posix(float(value))
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r} is no time")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _from_posix(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise ValueError(f"{seconds:g} is no time; POSIX times are in seconds") from exc


def usual_freq(moments: Sequence[datetime]) -> str | None:
    """The median distance as ``<n>m``, ``<n>h`` or ``<n>d``; None where it is no whole minutes.

    >>> usual_freq([to_moment(m * 60) for m in (0, 15, 30, 60)])
    '15m'
    """
    seconds = np.diff([moment.timestamp() for moment in moments])
    step_s = float(np.median(seconds)) if seconds.size else 0.0
    for unit, unit_s in (("m", 60), ("h", 3600), ("d", 86400)):
        count, rest = divmod(step_s, unit_s)
        if rest == 0 and 1 <= count <= 9999:
            return f"{int(count)}{unit}"
    return None


def _index_of(y: Any) -> Any:
    """The times of a pandas Series, if it has such."""
    index = getattr(y, "index", None)
    return index if hasattr(index, "tz") else None


def _values(name: str, values: Any) -> list[float | None]:
    """Numbers as JSON knows them, None for NaN."""
    try:
        array = np.asarray(list(values), dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{name} must hold numbers, and None or NaN where there is none") from exc
    if array.ndim != 1 or np.isinf(array).any():
        raise ValueError(f"{name} must be one row of finite numbers")
    return [None if np.isnan(value) else value for value in array.tolist()]
