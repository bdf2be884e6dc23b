"""tollama's JSON in both directions: series to request bytes, answer bytes to arrays.

No network here: bytes in, values out. A fault of one series is an error of that series only.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from runner.errors import BadOutputError, RuntimeRejectedError
from runner.tollama.notices import Notices
from runner.types import BatchKey, FloatArray, ModelSeries, RuntimeForecast, RuntimeUsage

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_GRIDS_KEPT = 16  # one has 7 kB for 288 steps; the series of one moment are mostly on one
_OTHER_PARTS = 100  # objects and lists, besides paths, that an answer and each forecast may have
_UNITS = ((86_400, "D"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSeries:
    """A series as JSON; the timestamps are apart, as all series on the same grid share them."""

    timestamps: bytes
    rest: bytes  # the other members of its object but its id, and the closing bracket
    end_ts: float  # time of the last value
    step_s: int

    @property
    def size_bytes(self) -> int:
        """What it adds to the body of a call, with its id and commas: at most 64 bytes."""
        return len(self.timestamps) + len(self.rest) + 64


def pandas_frequency(step_s: int) -> str:
    """The pandas alias of a step: ``5m`` is minutes in this API, months in pandas.

    >>> [pandas_frequency(s) for s in (300, 3600, 5400, 86400, 45)]
    ['5min', '1h', '90min', '1D', '45s']
    """
    seconds, unit = next((s, unit) for s, unit in _UNITS if step_s % s == 0)
    return f"{step_s // seconds}{unit}"


def longest_answer(key: BatchKey, series: int) -> int:
    """The largest size of a valid answer, in bytes; to parse more would block for too long.

    A number takes 25 characters, 50 if the JSON is indented; the limit allows twice that.
    """
    numbers = key.horizon_steps * (len(key.levels) + 1)  # and the mean
    return 100_000 + series * (10_000 + 100 * numbers)


def check_levels(levels: Sequence[float]) -> None:
    """Raises RuntimeRejectedError for levels that crash tollama 0.1.0.

    Its runners name levels in ``%g`` form. One that this rounds to 1 ends the model process; after
    three such calls tollama's breaker opens for all callers.
    """
    if any(float(f"{level:g}") >= 1.0 for level in levels):
        raise RuntimeRejectedError("a level is so close to 1 that it would crash the runtime")


def encode_series(series: ModelSeries) -> EncodedSeries:
    """One series as JSON; raises RuntimeRejectedError where it may not be sent."""
    arrays = (series.y, *series.x_past.values(), *series.x_future.values())
    if not all(np.isfinite(a).all() for a in arrays):
        raise RuntimeRejectedError("a value is not finite")  # tollama would let NaN through
    rest: dict[str, object] = {"freq": pandas_frequency(series.step_s), "target": series.y}
    if series.x_past:
        rest["past_covariates"] = series.x_past
    if series.x_future:
        rest["future_covariates"] = series.x_future
    timestamps = _timestamps(len(series.y), series.end_ts, series.step_s)
    encoded = orjson.dumps(rest, option=_OPTIONS)
    return EncodedSeries(timestamps, encoded[1:], series.end_ts, series.step_s)


def join_request(key: BatchKey, series: Mapping[int, EncodedSeries], mark: str = "s") -> bytes:
    """The body of one forecast call: what the batch shares, and the series by their numbers.

    The id of a series is ``mark`` and its number. With a different mark for each batch, an answer
    to another batch is recognised as wrong.

    ``timeout`` is left out on purpose: when a short one expires, tollama kills the model process.
    """
    head = {"model": key.model, "horizon": key.horizon_steps, "quantiles": key.levels}
    if key.params:
        head["options"] = dict(key.params)
    pieces = [orjson.dumps(head)[:-1]]
    before = ',"series":['
    for i, one in series.items():
        begin = f'{before}{{"id":"{mark}{i}","timestamps":'.encode()
        pieces += (begin, one.timestamps, b",", one.rest)
        before = ","
    return b"".join([*pieces, b"]}"])  # one join: at 1.6 MB a second copy costs 5 ms


def decode_forecasts(
    body: bytes, key: BatchKey, series: Mapping[int, EncodedSeries], mark: str = "s"
) -> tuple[list[RuntimeForecast | BadOutputError], RuntimeUsage]:
    """The forecast of each series, by its index, or its error; and what the call took.

    Raises:
        BadOutputError: the whole body is not a valid answer.
    """
    parts = body.count(b"[") + body.count(b"{")  # a million empty lists take a second to parse
    if parts > _OTHER_PARTS * (1 + len(series)) + len(key.levels) * len(series):
        raise BadOutputError("the answer has too many parts")
    answer = _parse(body)
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for forecast in answer["forecasts"]:
        if isinstance(forecast, dict):
            by_id.setdefault(str(forecast.get("id")), []).append(forecast)
    ids = {f"{mark}{i}": one for i, one in series.items()}
    found = [_rows(by_id.get(id_, ()), key, one) for id_, one in ids.items()]
    notices = Notices(answer.get("warnings"))
    forecasts = [
        paths
        if isinstance(paths, BadOutputError)
        else RuntimeForecast(paths, notices.of(id_), notices.ignored(id_))
        for id_, paths in zip(ids, _paths(found, key), strict=True)
    ]
    return forecasts, _usage(answer)


@lru_cache(_GRIDS_KEPT)
def _timestamps(count: int, end_ts: float, step_s: int) -> bytes:
    """``count`` times as JSON, ``step_s`` apart, the last one at ``end_ts``."""
    last = np.datetime64(round(end_ts * 1e6), "us")
    times = last - np.arange(count - 1, -1, -1) * np.timedelta64(step_s, "s")
    return orjson.dumps(times, option=_OPTIONS)


def _parse(body: bytes) -> dict[str, Any]:
    """The answer, which has a list of forecasts."""
    try:
        answer = _loads(body)
    except (ValueError, RecursionError) as exc:
        raise BadOutputError("the answer is not JSON") from exc
    if not isinstance(answer, dict) or not isinstance(answer.get("forecasts"), list):
        raise BadOutputError("the answer holds no list of forecasts")
    return answer


def _usage(answer: Mapping[str, Any]) -> RuntimeUsage:
    found = [(answer.get("timing"), "inference_ms"), (answer.get("usage"), "peak_memory_mb")]
    values = [part.get(name) if isinstance(part, dict) else None for part, name in found]
    return RuntimeUsage(*map(_amount, values))


def _amount(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)


def _loads(body: bytes) -> Any:
    """JSON; the slower parser accepts ``NaN`` and ``1e999``, so that only one series fails."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def _rows(
    found: Sequence[Mapping[str, Any]], key: BatchKey, series: EncodedSeries
) -> list[list[float]] | BadOutputError:
    """A path for each level, of the forecasts that came with the id of a series."""
    if len(found) != 1:
        return BadOutputError("its id came twice" if found else "no forecast came with its id")
    if _begins_late(found[0].get("start_timestamp"), series):
        return BadOutputError("the forecast does not begin at the step after the series")
    quantiles = found[0].get("quantiles")
    if not isinstance(quantiles, dict):
        return BadOutputError("the forecast has no quantiles")
    names = _names(tuple(quantiles), key.levels)
    if names is None:
        return BadOutputError("a quantile level is missing or came twice")
    rows = [quantiles[name] for name in names]
    if not all(_is_path(row, key.horizon_steps) for row in rows):
        return BadOutputError("a quantile path is not a list of numbers of the asked length")
    return rows


def _begins_late(start: Any, series: EncodedSeries) -> bool:
    """Whether a forecast is one of later steps, as those of moirai in tollama 0.1.0 are.

    Some runners name the last step of the series as the start, others the one after it.
    """
    try:
        begins = datetime.fromisoformat(start)
    except (TypeError, ValueError):
        return False  # nothing is said
    start_ts = (begins if begins.tzinfo else begins.replace(tzinfo=UTC)).timestamp()
    return start_ts > series.end_ts + 1.5 * series.step_s


@lru_cache(maxsize=256)  # the same for all series of a batch, and for most batches
def _names(given: tuple[str, ...], levels: tuple[float, ...]) -> tuple[str, ...] | None:
    """The runtime's name of each level, matched in ``%g`` form; None: one is missing or twice."""
    numbers = [(_number(name), name) for name in given]
    by_level = {number: name for number, name in numbers if number is not None}
    if len(by_level) < sum(number is not None for number, _ in numbers):
        return None
    names = [by_level.get(level) or by_level.get(float(f"{level:g}")) for level in levels]
    found = tuple(name for name in names if name is not None)
    return found if len(found) == len(levels) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_path(row: Any, horizon_steps: int) -> bool:
    return (
        isinstance(row, list) and len(row) == horizon_steps and set(map(type, row)) <= {float, int}
    )


def _paths(
    found: Sequence[list[list[float]] | BadOutputError], key: BatchKey
) -> list[FloatArray | BadOutputError]:
    """``(H, Q)`` of each, in one array: one for each series takes three times as long."""
    rows = [one for one in found if not isinstance(one, BadOutputError)]
    try:
        values = np.array(rows, dtype=np.float64)
    except OverflowError:
        values = np.array([[[*map(_as_float, path)] for path in one] for one in rows])
    values = values.reshape(-1, len(key.levels), key.horizon_steps)  # also if there are none
    usable = np.asarray(np.isfinite(values).all(axis=(1, 2)))
    paths = np.ascontiguousarray(values.transpose(0, 2, 1))
    bad = "a value is not finite"
    read = (paths[b] if usable[b] else BadOutputError(bad) for b in range(len(rows)))
    return [one if isinstance(one, BadOutputError) else next(read) for one in found]


def _as_float(value: float) -> float:
    """A number of any size; an integer over 1e308 is infinite."""
    try:
        return float(value)
    except OverflowError:
        return np.inf
