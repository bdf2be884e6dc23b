"""``POST /tsfm/forecast``: one request, one forecast, as bytes.

An answer is encoded once. The fields that differ between requests are last in ``meta``, so that a
cached answer is neither parsed nor encoded again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import orjson
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from runner.answer_cache import AnswerCache, Entry
from runner.calibration.conformal import Adjusted
from runner.errors import OverloadedError
from runner.forecast.answers import Forecast
from runner.pacer import Pacer
from runner.types import BASELINE_MODEL, BreakerState, FloatArray, ModelAnswer, Source
from serve_app.auth.rate_limit import NoRateLimit, body_steps, rate_limit_of
from serve_app.http.bodies.forecast import parse_forecast
from serve_app.http.errors import request_id
from serve_app.http.requests import (
    AT_ONCE_BYTES,
    deadline_ms,
    format_level,
    header_deadline_ms,
    iso,
    read_body,
    series_steps,
    to_request,
)
from serve_app.http.service import Dependencies
from serve_app.telemetry.request_metrics import Route, timing_header, timings_of

LAST_STEP_LEVELS = {"q10": 0.1, "q50": 0.5, "q90": 0.9}  # specification, Stage 5
LAST_STEP_FIELDS = (*LAST_STEP_LEVELS, "target_coverage", "sample_size", "segment")
_BODY = b'%b"cache_hit":%b,"cache_age_s":%b,"circuit_breaker_state":"%b","latency_ms":%.3f}}'
Answer = tuple[bytes, bytes]  # the body, and the value of Server-Timing


class _Kept(NamedTuple):
    head: bytes
    model: str
    steps: int
    answer: Entry[ModelAnswer]  # the bytes are valid as long as this entry


class ForecastEndpoint:
    """Answers one request.

    Answers of the model are also cached by the digest of the request's bytes: the same bytes within
    the time to live are answered without parsing. ``newest_steps`` are checked where a request does
    not say.
    """

    def __init__(self, service: Dependencies, newest_steps: int = 0) -> None:
        self._service = service
        self._newest_steps = newest_steps
        self._clock = service.clock
        self._kept: AnswerCache[_Kept] = AnswerCache(service.config.cache, lambda: 0.0)
        self._under_way = service.under_way
        self._turn = asyncio.Lock()

    @property
    def kept_bodies(self) -> int:
        """The number of answers cached as bytes, fresh or expired."""
        return len(self._kept)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; raises RequestError and ValidationError for the handlers."""
        began = self._clock()
        limits = self._service.config.request
        body = await read_body(receive, limits.max_body_bytes, limits.body_timeout_s)
        header_ms = header_deadline_ms(Headers(scope=scope))  # checked also for cached answers
        digest = hashlib.blake2b(body, digest_size=16).digest()
        rate_limit = rate_limit_of(scope)
        answer = self._answer_kept(digest, rate_limit, began, scope)
        if answer is None:
            self._under_way.single += 1
            try:
                answer = await self._answer(body, digest, header_ms, rate_limit, began, scope)
            finally:
                self._under_way.single -= 1
        await _send(send, *answer)

    async def _take_turn(self) -> None:
        """Waits until the requests before this one have each had a turn of the event loop.

        uvloop accepts one connection in a turn. If all waiting requests were answered in the same
        turn, callers who return at once would keep new connections, and with them HAProxy's health
        checks, waiting for many seconds.
        """
        async with self._turn:
            await asyncio.sleep(0)

    def _answer_kept(
        self, digest: bytes, rate_limit: NoRateLimit, began: float, scope: Scope
    ) -> Answer | None:
        entry = self._kept.fresh(digest, began)
        if entry is None or began >= entry.value.answer.fresh_until:
            return None
        kept = entry.value
        rate_limit.admit(kept.steps)
        state = self._service.answers.breaker_state(kept.model)
        age_s = began - kept.answer.stored_at
        now = self._clock()
        total_ms = (now - began) * 1e3
        timing = self._service.request_metrics.kept(now, total_ms, partial(_request_id, scope))
        return render(kept.head, state, total_ms, age_s), timing

    async def _answer(
        self,
        body: bytes,
        digest: bytes,
        header_ms: float | None,
        rate_limit: NoRateLimit,
        began: float,
        scope: Scope,
    ) -> Answer:
        config, overload = self._service.config, self._service.config.overload
        if self._under_way.total > overload.refuse_above:
            raise OverloadedError(overload.retry_after_s)
        if self._under_way.total > overload.shed_above:
            await self._take_turn()
        rate_limit.admit(body_steps(body))
        is_long = len(body) > AT_ONCE_BYTES
        if is_long:  # receiving and hashing it took time: let other requests run
            await asyncio.sleep(0)
        wire = await parse_forecast(body, config.request, Pacer(self._clock))
        if is_long:
            await asyncio.sleep(0)
        steps = max(series_steps(wire, config.request), body_steps(body))
        rate_limit.spend(steps - body_steps(body))
        request = to_request(wire, config, self._newest_steps)
        limit_ms = deadline_ms(config.request.deadline_ms, wire.deadline_ms, header_ms)
        admitted = self._clock()
        forecast = await self._service.forecaster.forecast(
            request, began + limit_ms / 1e3, shed=self._under_way.total > overload.shed_above
        )
        answered = self._clock()
        head = encode(forecast)
        if request.observe and forecast.cache_entry is not None and not forecast.cache_stale:
            kept = _Kept(head, forecast.resolved.key.model, steps, forecast.cache_entry)
            self._kept.put(digest, kept, self._clock())
        now, age_s = self._clock(), forecast.cache_age_s
        timings = timings_of(began, admitted, answered, now, forecast)
        called = partial(_request_id, scope)
        self._service.request_metrics.answered(Route.FORECAST, now, forecast, timings, called)
        body = render(head, forecast.breaker_state, timings["total"], age_s)
        return body, timing_header(timings)


def _request_id(scope: Scope) -> str:
    return request_id(Headers(scope=scope))


async def _send(send: Send, body: bytes, timing: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"server-timing", timing),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def render(
    head: bytes, breaker_state: BreakerState, latency_ms: float, cache_age_s: float | None
) -> bytes:
    """The whole body; ``cache_age_s`` is None for an answer that is not from the cache."""
    return _BODY % (
        head,
        b"false" if cache_age_s is None else b"true",
        b"null" if cache_age_s is None else b"%.3f" % cache_age_s,
        breaker_state.encode(),
        latency_ms,
    )


def encode(forecast: Forecast) -> bytes:
    """The head of the body: paths, and the fields of ``meta`` that any request gets alike."""
    request = forecast.resolved.request
    body = {
        "market_id": request.market_id,
        "as_of_ts": iso(request.as_of),
        "freq": request.freq,
        "horizon_steps": request.horizon_steps,
        "quantiles": request.levels,
        "yhat_q": _by_level(forecast.bands.y_prob, request.levels),
        **(_calibrated(forecast.conformal, request.levels) if forecast.conformal_asked else {}),
        **({} if forecast.above is None else _above(forecast.above, request.thresholds)),
        **({"check": forecast.check} if forecast.check else {}),
        "meta": _meta(forecast),
    }
    encoded = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return encoded[:-2] + b","  # without "}}", which closes meta and body


def _by_level(y_prob: FloatArray, levels: Sequence[float]) -> dict[str, FloatArray]:
    paths = np.ascontiguousarray(y_prob.T)  # (Q, H)
    return {format_level(level): paths[i] for i, level in enumerate(levels)}


def _above(probability: FloatArray, thresholds: Sequence[float]) -> dict[str, Any]:
    return {"probability_above": _by_level(probability, thresholds)}


def _calibrated(adjusted: Adjusted | None, levels: Sequence[float]) -> dict[str, Any]:
    """The calibrated paths and a summary of their last step; nulls without a calibration."""
    last: dict[str, Any] = dict.fromkeys(LAST_STEP_FIELDS)
    if adjusted is None:
        return {"yhat_q_conformal": None, "conformal_last_step": last}
    path = adjusted.paths[0]
    at_end = dict(zip(levels, path[-1].tolist(), strict=True))
    last |= {name: at_end.get(level) for name, level in LAST_STEP_LEVELS.items()}
    last |= {
        "target_coverage": adjusted.target_coverage,
        "sample_size": adjusted.sample_size,
        "segment": adjusted.segment_used,
    }
    return {"yhat_q_conformal": _by_level(path, levels), "conformal_last_step": last}


def _meta(forecast: Forecast) -> dict[str, Any]:
    resolved, model = forecast.resolved, forecast.model
    is_baseline = forecast.source is Source.BASELINE
    meta: dict[str, Any] = {
        "runtime": forecast.source.value,
        "model_requested": resolved.request.model_name,
        "model_name": BASELINE_MODEL if is_baseline else resolved.entry.runtime_name,
        "model_version": None if is_baseline else resolved.entry.version,
        "input_len": resolved.series.y_prob.size,
        "gaps_filled": resolved.series.gaps_filled,
        "transform": {
            "space": resolved.request.transform.space,
            "eps": resolved.request.transform.eps,
        },
        "fallback_used": forecast.fallback_reason is not None,
        "fallback_reason": forecast.fallback_reason,
        "warnings": forecast.warnings,
        "cache_stale": forecast.cache_stale,
    }
    if resolved.request.x_past:
        meta["covariates_ignored"] = forecast.covariates_ignored
    if model is not None:
        meta["batch_size"] = model.batch_size
        meta["queue_ms"] = round(model.queue_ms, 3)
        meta["runtime_ms"] = round(model.runtime_ms, 3)
    return meta
