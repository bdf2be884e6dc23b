"""Requests: reading a body with limits of size and time, its pydantic model, and its conversion.

One pydantic pass directly from the bytes; arrays are checked with numpy, which is faster than a
constraint per element and can name the wrong element.
"""

import asyncio
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from runner.config.loading import Config
from runner.config.sections import BandsSection, RequestSection
from runner.errors import BodyTimeoutError, BodyTooLargeError, InvalidRequestError
from runner.forecast.check import MAX_NEWEST_STEPS, split
from runner.forecast.resolved_request import TOLERANCE_S
from runner.types import MIN_EPS, FloatArray, ForecastRequest, ParamValue, Space, Transform

Name = Annotated[str, Field(min_length=1, max_length=128)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Timestamp = Annotated[AwareDatetime, Field(strict=True)]
# A list is read up to its first error: collecting all errors takes a hundred times as long.
Numbers = Annotated[list[Number], Field(fail_fast=True)]
Observed = Annotated[list[Number | None], Field(fail_fast=True)]
Times = Annotated[list[Timestamp], Field(fail_fast=True)]
Series = Annotated[Numbers, Field(min_length=1)]

DEADLINE_HEADER = "x-request-deadline-ms"
# The most bytes in one call of the parser: the worst case takes about 10 ms. The parser builds the
# whole body before it reports an error, and blocks the event loop and all threads meanwhile.
AT_ONCE_BYTES = 32 * 1024
MIN_LEVEL = 1e-6  # tollama writes levels with six digits; a level that rounds to 1 crashes it
MAX_PARAMS = 64
MAX_THRESHOLDS = 16
FREQ = r"^[1-9][0-9]{0,3}[mhd]$"
_STEP_S = {"m": 60, "h": 3600, "d": 86400}
# The runtime keeps times in 64-bit nanoseconds: 1677 to 2262. Our limits are a little inside.
_EARLIEST = datetime(1700, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(2260, 1, 1, tzinfo=UTC).timestamp()


async def read_body(receive: Receive, limit_bytes: int, limit_s: float) -> bytes:
    """The whole body, counted and timed while it streams in.

    Raises:
        BodyTooLargeError: more than ``limit_bytes`` were received, whatever Content-Length said.
        BodyTimeoutError: it was not complete after ``limit_s``.
        ClientDisconnect: the caller disconnected.
    """
    chunks, size, more = list[bytes](), 0, True
    try:
        async with asyncio.timeout(limit_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit_bytes:
                    raise BodyTooLargeError(limit_bytes)
                more = message.get("more_body", False)
    except TimeoutError as exc:
        raise BodyTimeoutError(limit_s) from exc
    return b"".join(chunks)


def deadline_ms(config_ms: float, *caller_ms: float | None) -> float:
    """The shortest of the service's deadline and the caller's, in body and header."""
    return min(config_ms, *(ms or config_ms for ms in caller_ms))


def header_deadline_ms(headers: Headers) -> float | None:
    """The caller's deadline in the header; None where there is no such header.

    Raises:
        InvalidRequestError: the header is not a positive number.
    """
    header = headers.get(DEADLINE_HEADER)
    if header is None:
        return None
    try:
        value = float(header)
    except ValueError:
        value = -1.0
    if not 0.0 < value < float("inf"):
        raise InvalidRequestError("X-Request-Deadline-Ms", "Send a positive number.")
    return value


class StrictBody(BaseModel):
    """Strict about names, numbers and NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class TransformBody(StrictBody):
    """The space the series is modelled in."""

    space: Space | None = Field(None, description="`logit` (default) or `identity`.")
    eps: Annotated[float, Field(ge=MIN_EPS, lt=0.5, strict=True)] | None = Field(
        None, description="Probabilities are clipped to [eps, 1 - eps] before log-odds."
    )


def _few_params(params: object) -> object:
    """Checks the number first: pydantic checks it only after it has collected all errors."""
    if isinstance(params, dict) and len(params) > MAX_PARAMS:
        raise PydanticCustomError("too_many_params", "Send fewer options.")
    return params


class ModelBody(StrictBody):
    """Which model is asked for."""

    provider: Literal["tollama"] = "tollama"
    model_name: Name | None = Field(None, description="Alias or runtime name; see /tsfm/models.")
    model_version: Name | None = None
    params: Annotated[
        dict[Name, ParamValue], Field(max_length=MAX_PARAMS), BeforeValidator(_few_params)
    ] = Field(
        default_factory=dict,
        description="Model options; what the model does not allow is dropped with a warning.",
    )


class BandsBody(StrictBody):
    """Limits of the band's width for this request."""

    min_interval_width: Annotated[float, Field(ge=0, strict=True)] | None = Field(
        None, description="Least distance between the outermost levels."
    )
    min_interval_ticks: Annotated[float, Field(gt=0, strict=True)] | None = Field(
        None, description="The same in ticks of the series, where that is less."
    )


class ForecastBody(StrictBody):
    """A market's recent probabilities, and what to forecast from them."""

    market_id: Name
    as_of_ts: Timestamp = Field(description="Time of the last value, ISO-8601 with a zone.")
    freq: Annotated[str, Field(pattern=FREQ)] | None = Field(
        None, description="Step of the series: `<n>m`, `<n>h` or `<n>d`."
    )
    horizon_steps: Annotated[int, Field(ge=1, strict=True)] | None = None
    quantiles: Series | None = Field(None, description="Ascending unique levels inside (0, 1).")
    y: Annotated[Observed, Field(min_length=2)] = Field(
        description="Probabilities in [0, 1], oldest first; null where there is none."
    )
    y_ts: Annotated[Times, Field(min_length=2)] | None = Field(
        None, description="Time of each value, strictly increasing, the last one as_of_ts."
    )
    x_past: dict[Name, Series] | None = Field(None, description="Covariates, one value per y.")
    x_future: dict[Name, Series] | None = Field(
        None, description="Covariates known ahead, one value per step; also in x_past."
    )
    transform: TransformBody | None = None
    model: ModelBody | None = None
    liquidity_bucket: Name | None = Field(
        None, description="How liquid the market is; the examples go to the baseline."
    )
    max_gap_minutes: Annotated[float, Field(ge=0, strict=True)] | None = None
    deadline_ms: Annotated[float, Field(gt=0, strict=True)] | None = Field(
        None, description="Answer by then; can only tighten the service's own deadline."
    )
    newest_steps: Annotated[int, Field(ge=0, le=MAX_NEWEST_STEPS, strict=True)] | None = Field(
        None,
        description="Forecast without the newest values of `y` and say in `check` what they are; "
        "null: 1 for /tsfm/check, 0 for /tsfm/forecast.",
    )
    conformal: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Whether calibrated paths come with the answer; null: as configured."
    )
    thresholds: Annotated[Series, Field(max_length=MAX_THRESHOLDS)] | None = Field(
        None, description="Prices inside (0, 1): the answer has the probability to be above each."
    )
    closes_at: Timestamp | None = Field(
        None, description="When the market closes: later steps are not forecast."
    )
    bands: BandsBody | None = None
    observe: Annotated[bool, Field(strict=True)] = Field(
        True, description="false for tests and replays: not learned from, and counted apart."
    )


class BatchBody(StrictBody):
    """Many requests under one deadline."""

    requests: Annotated[list[ForecastBody], Field(fail_fast=True)]
    deadline_ms: Annotated[float, Field(gt=0, strict=True)] | None = Field(
        None, description="Every result by then; can only tighten the service's own deadline."
    )


def to_request(wire: ForecastBody, config: Config, newest_steps: int = 0) -> ForecastRequest:
    """The request in the types of `runner`, with defaults filled in and every limit checked.

    ``newest_steps`` are checked where the body does not say.

    Raises:
        InvalidRequestError: a limit of the configuration, or of two fields together, is exceeded.
    """
    limits, transform = config.request, config.transform
    horizon_steps, freq = wire.horizon_steps or limits.horizon_steps, wire.freq or limits.freq
    step_s = parse_freq(freq)
    y_prob = _probabilities(wire.y, limits)
    model = wire.model or ModelBody()
    _check_size(wire, horizon_steps, step_s, limits)
    space, max_gap_minutes = wire.transform or TransformBody(), wire.max_gap_minutes
    request = ForecastRequest(
        market_id=wire.market_id,
        as_of=wire.as_of_ts,
        freq=freq,
        step_s=step_s,
        horizon_steps=horizon_steps,
        levels=_levels(wire.quantiles, limits),
        y_prob=y_prob,
        y_ts=_times(wire, y_prob.size),
        x_past=_covariates("x_past", wire.x_past, y_prob.size),
        x_future=_future(wire, horizon_steps),
        transform=Transform(space.space or transform.space, space.eps or transform.eps),
        model_name=model.model_name or limits.model,
        model_version=model.model_version,
        params=model.params,
        liquidity_bucket=wire.liquidity_bucket,
        max_gap_minutes=limits.max_gap_minutes if max_gap_minutes is None else max_gap_minutes,
        conformal=wire.conformal,
        width_limits=_width_limits(wire.bands, config.bands),
        observe=wire.observe,
        thresholds=_thresholds(wire, limits),
        closes_at=_closes_at(wire),
    )
    newest_steps = newest_steps if wire.newest_steps is None else wire.newest_steps
    return _cut_at_close(split(request, newest_steps) if newest_steps else request)


def _closes_at(wire: ForecastBody) -> float | None:
    if wire.closes_at is None:
        return None
    if wire.closes_at < wire.as_of_ts:
        raise InvalidRequestError(
            "closes_at", "Send a time that is not before as_of_ts, or leave it out."
        )
    return wire.closes_at.timestamp()


def _cut_at_close(request: ForecastRequest) -> ForecastRequest:
    """The request with the steps up to the close alone."""
    if request.closes_in_s is None:
        return request
    steps = int((request.closes_in_s + TOLERANCE_S) // request.step_s)
    if steps < 1:
        raise InvalidRequestError(
            "closes_at", "Send a time one step or more after as_of_ts, or leave it out."
        )
    if steps >= request.horizon_steps:
        return request
    x_future = {name: x[:steps] for name, x in request.x_future.items()}
    return replace(request, horizon_steps=steps, x_future=x_future, is_cut=True)


def _width_limits(wire: BandsBody | None, bands: BandsSection) -> dict[str, float]:
    if wire is None:
        return {}
    if (wire.min_interval_width or 0.0) > bands.max_interval_width:
        most = f"Send at most {bands.max_interval_width:g}, the greatest width."
        raise InvalidRequestError("bands.min_interval_width", most)
    return wire.model_dump(exclude_none=True)


def series_steps(wire: ForecastBody, limits: RequestSection) -> int:
    """The cost of a request; values over a limit count as the limit, as they are refused."""
    covariates = len(wire.x_past or ()) + (wire.y_ts is not None)
    levels = min(len(wire.quantiles or limits.quantiles), limits.max_levels)
    horizon_steps = min(wire.horizon_steps or limits.horizon_steps, limits.max_horizon_steps)
    return len(wire.y) * (1 + covariates) + horizon_steps * (levels + len(wire.x_future or ()))


def parse_freq(freq: str) -> int:
    """Seconds of a step written ``<n>m``, ``<n>h`` or ``<n>d``.

    >>> parse_freq("5m"), parse_freq("1h")
    (300, 3600)
    """
    return int(freq[:-1]) * _STEP_S[freq[-1]]


def format_level(level: float) -> str:
    """The JSON key of a level: the shortest text that reads back as the same number.

    >>> format_level(0.1), format_level(0.025)
    ('0.1', '0.025')
    """
    return repr(level)


def iso(moment: datetime) -> str:
    """UTC, ISO-8601 with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


FIELD_NAMES = tuple(
    name
    for body in (ForecastBody, ModelBody, TransformBody, BatchBody)
    for name in body.model_fields
)
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


def field_path(loc: tuple[int | str, ...]) -> str:
    """A pydantic location in dotted form; a caller's names appear only with safe characters.

    >>> field_path(("y", 3)), field_path(("<script>",))
    ('y.3', '?')
    """
    parts = (str(part) for part in loc if part not in ("float", "int", "nullable"))
    return ".".join(part if _SAFE_NAME.fullmatch(part) else "?" for part in parts)


def _probabilities(values: list[float | None], limits: RequestSection) -> FloatArray:
    if len(values) > limits.max_points:
        raise InvalidRequestError("y", f"Send at most {limits.max_points} values.")
    y_prob = np.array(values, dtype=np.float64)  # None becomes NaN
    if y_prob.min() >= 0.0 and y_prob.max() <= 1.0:  # False where there is a NaN
        return y_prob
    outside = np.flatnonzero((y_prob < 0.0) | (y_prob > 1.0))
    if outside.size:
        raise InvalidRequestError(f"y.{outside[0]}", _outside(y_prob))
    if np.isfinite(y_prob).sum() < 2:
        raise InvalidRequestError("y", "Send at least 2 values that are not null.")
    return y_prob


def _outside(values: FloatArray) -> str:
    lowest, highest = np.nanmin(values), np.nanmax(values)
    percent = "; divide percentages by 100" if lowest >= 0 and 2 <= highest <= 100 else ""
    return f"Probabilities lie between 0 and 1{percent}."


def _levels(values: list[float] | None, limits: RequestSection) -> tuple[float, ...]:
    if values is None:
        return limits.quantiles
    if len(values) > limits.max_levels:
        raise InvalidRequestError("quantiles", f"Send at most {limits.max_levels} levels.")
    for i, level in enumerate(values):
        if not MIN_LEVEL <= level <= 1.0 - MIN_LEVEL:
            message = f"Levels lie between {MIN_LEVEL:f} and {1.0 - MIN_LEVEL:f}; 10 % is 0.1."
            raise InvalidRequestError(f"quantiles.{i}", message)
        if i and level <= values[i - 1]:
            raise InvalidRequestError(f"quantiles.{i}", "Levels must ascend and be unique.")
    return tuple(values)


def _thresholds(wire: ForecastBody, limits: RequestSection) -> tuple[float, ...]:
    values = wire.thresholds or []
    for i, value in enumerate(values):
        if not 0 < value < 1:
            message = "Thresholds are prices over 0 and under 1; 90 % is 0.9."
            raise InvalidRequestError(f"thresholds.{i}", message)
    if values and len(wire.quantiles or limits.quantiles) < 2:
        raise InvalidRequestError("thresholds", "Ask for two quantiles or more to get these.")
    return tuple(dict.fromkeys(values))


def _times(wire: ForecastBody, points: int) -> FloatArray | None:
    if wire.y_ts is None:
        return None
    if len(wire.y_ts) != points:
        raise InvalidRequestError("y_ts", "Send one time per value of y.")
    times = np.array([moment.timestamp() for moment in wire.y_ts])
    backwards = np.flatnonzero(np.diff(times) <= 0)
    if backwards.size:
        raise InvalidRequestError(f"y_ts.{backwards[0] + 1}", "Times must strictly increase.")
    if not math.isclose(times[-1], wire.as_of_ts.timestamp(), abs_tol=1e-3):
        raise InvalidRequestError("y_ts", "The last time must be as_of_ts.")
    return times


def _covariates(
    path: str, named: dict[str, list[float]] | None, length: int
) -> dict[str, FloatArray]:
    for name, values in (named or {}).items():
        if len(values) != length:
            raise InvalidRequestError(field_path((path, name)), f"Send exactly {length} values.")
    return {name: np.array(values) for name, values in (named or {}).items()}


def _future(wire: ForecastBody, horizon_steps: int) -> dict[str, FloatArray]:
    for name in wire.x_future or {}:
        if name not in (wire.x_past or {}):
            raise InvalidRequestError(
                field_path(("x_future", name)), "Send its past under x_past as well."
            )
    return _covariates("x_future", wire.x_future, horizon_steps)


def _check_size(
    wire: ForecastBody, horizon_steps: int, step_s: int, limits: RequestSection
) -> None:
    if horizon_steps > limits.max_horizon_steps:
        raise InvalidRequestError(
            "horizon_steps", f"Ask for at most {limits.max_horizon_steps} steps."
        )
    covariates = len(wire.x_past or {})
    if covariates > limits.max_covariates:
        raise InvalidRequestError("x_past", f"Send at most {limits.max_covariates} covariates.")
    cells = (len(wire.y) + horizon_steps) * (1 + covariates)
    if cells > limits.max_cells:
        raise InvalidRequestError(
            "y", f"Points and covariates together are limited to {limits.max_cells} numbers."
        )
    end = wire.as_of_ts.timestamp()
    if end - len(wire.y) * step_s < _EARLIEST or end + horizon_steps * step_s > _LATEST:
        raise InvalidRequestError("as_of_ts", "Series and forecast must lie in 1700 to 2260.")
