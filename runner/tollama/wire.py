"""tollama's JSON in both directions: series to request bytes, answer bytes to arrays.

No network here: bytes in, values out. A fault of one series is an error of that series only.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from runner.errors import BadOutputError, RuntimeRejectedError
from runner.tollama.notices import Notices
from runner.types import BatchKey, FloatArray, ModelSeries, RuntimeForecast, RuntimeUsage

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
_OTHER_PARTS = 100  # objects and lists, besides paths, that an answer and each forecast may have
_UNITS = ((86_400, "D"), (3_600, "h"), (60, "min"), (1, "s"))


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


def encode_series(
    batch: Sequence[ModelSeries], mark: str = "s"
) -> list[bytes | RuntimeRejectedError]:
    """Each series as a JSON object, or the reason why it may not be sent.

    Its id is ``mark`` and its index. With a different mark for each batch, an answer to another
    batch is recognised as wrong. Timestamps are encoded once for all series on the same grid.
    """
    grids: dict[tuple[int, float, int], orjson.Fragment] = {}
    return [_encode_one(f"{mark}{i}", series, grids) for i, series in enumerate(batch)]


def join_request(key: BatchKey, parts: Sequence[bytes]) -> bytes:
    """The body of one forecast call: what the batch shares, and the encoded series.

    ``timeout`` is left out on purpose: when a short one expires, tollama kills the model process.
    """
    head = {"model": key.model, "horizon": key.horizon_steps, "quantiles": key.levels}
    if key.params:
        head["options"] = dict(key.params)
    pieces = [b","] * (2 * len(parts) + 1)
    pieces[0], pieces[1::2], pieces[-1] = orjson.dumps(head)[:-1] + b',"series":[', parts, b"]}"
    return b"".join(pieces)  # one join: at 1.6 MB for 128 series a second copy costs 5 ms


def decode_forecasts(
    body: bytes, key: BatchKey, series: Mapping[int, ModelSeries], mark: str = "s"
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
    notices = Notices(answer.get("warnings"))
    forecasts: list[RuntimeForecast | BadOutputError] = []
    for i, one in series.items():
        name = f"{mark}{i}"
        paths = _read_one(by_id.get(name, ()), key, one)
        if isinstance(paths, BadOutputError):
            forecasts.append(paths)
        else:
            said = notices.of(name), notices.ignored(name)
            forecasts.append(RuntimeForecast(paths, *said))
    return forecasts, _usage(answer)


def _encode_one(
    name: str, series: ModelSeries, grids: dict[tuple[int, float, int], orjson.Fragment]
) -> bytes | RuntimeRejectedError:
    arrays = (series.y, *series.x_past.values(), *series.x_future.values())
    if not all(np.isfinite(a).all() for a in arrays):
        return RuntimeRejectedError("a value is not finite")  # tollama would let NaN through
    grid = (len(series.y), series.end_ts, series.step_s)
    if grid not in grids:
        grids[grid] = orjson.Fragment(orjson.dumps(_timestamps(*grid), option=_OPTIONS))
    item: dict[str, object] = {
        "id": name,
        "freq": pandas_frequency(series.step_s),
        "timestamps": grids[grid],
        "target": series.y,
    }
    if series.x_past:
        item["past_covariates"] = series.x_past
    if series.x_future:
        item["future_covariates"] = series.x_future
    return orjson.dumps(item, option=_OPTIONS)


def _timestamps(count: int, end_ts: float, step_s: int) -> Any:
    """``(T,)`` datetime64 in microseconds, ``step_s`` apart, the last one at ``end_ts``."""
    last = np.datetime64(round(end_ts * 1e6), "us")
    return last - np.arange(count - 1, -1, -1) * np.timedelta64(step_s, "s")


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


def _read_one(
    found: Sequence[Mapping[str, Any]], key: BatchKey, series: ModelSeries
) -> FloatArray | BadOutputError:
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
    return _to_array(rows)


def _begins_late(start: Any, series: ModelSeries) -> bool:
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


def _to_array(rows: list[list[float]]) -> FloatArray | BadOutputError:
    try:
        paths = np.array(rows, dtype=np.float64)  # (Q, H)
    except OverflowError:  # an integer over 1e308
        return BadOutputError("a value is not finite")
    if not np.isfinite(paths).all():
        return BadOutputError("a value is not finite")
    return np.ascontiguousarray(paths.T)
