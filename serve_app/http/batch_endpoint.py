"""``POST /tsfm/forecast/batch``: many requests in one body, one deadline, one result for each.

An invalid item gets an error of its own. As JSON the results are in order; as NDJSON each is sent
with its index as soon as it is ready.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import orjson
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runner.errors import OverloadedError
from runner.forecast.answers import Forecast
from runner.types import ForecastRequest
from serve_app.auth.rate_limit import NoRateLimit, body_steps, rate_limit_of
from serve_app.http.batch_admission import (
    ITEM_BYTES,
    BatchCost,
    BatchQueue,
    check_deadline,
    count_items,
    peeked_deadline_ms,
)
from serve_app.http.bodies.forecast import BatchReader, open_batch
from serve_app.http.errors import Described, describe, request_id
from serve_app.http.forecast_endpoint import encode, render
from serve_app.http.requests import deadline_ms, header_deadline_ms, read_body
from serve_app.http.service import Dependencies
from serve_app.telemetry.request_metrics import Route, timings_of

NDJSON = "application/x-ndjson"

Line = tuple[int, bytes]


@dataclass(slots=True)
class _Batch:
    """One batch on its way; times on the service's clock, in seconds."""

    reader: BatchReader
    items: int  # as counted before reading
    size_bytes: int
    body_steps: int  # that the rate limit has taken already
    began: float
    limit_s: float
    rate_limit: NoRateLimit
    request_id: Callable[[], str]
    is_begun: bool = False  # the answer: it cannot become an error any more


WAIT_FRACTION = 0.5  # of a batch's time limit, for waiting: the rest is for its answers


WARM_UP_ITEMS = 100  # fewer leave the first batch slower than later ones


async def warm_up_batches(service: Dependencies) -> None:
    """Reads, answers and encodes one batch: the first in a process takes 50 ms longer.

    Its series are too short for the model, so the baseline alone is asked; nothing is learned.
    """
    market = {"as_of_ts": "2026-01-01T00:00:00Z", "y": [0.5, 0.5], "observe": False}
    requests = [{"market_id": str(i), **market} for i in range(WARM_UP_ITEMS)]
    body, config, clock = orjson.dumps({"requests": requests}), service.config, service.clock
    batch, _ = await open_batch(body, config, service.pacer, clock)
    valid = ((n, item) async for n, item in batch if isinstance(item, ForecastRequest))
    deadline = clock() + config.request.batch_deadline_ms / 1e3
    async for part in service.forecaster.forecast_many(valid, deadline):
        for _, result in part:
            if isinstance(result, Forecast):
                encode(result)


class BatchEndpoint:
    """Answers a list of requests; ``newest_steps`` are checked where a request does not say."""

    def __init__(self, service: Dependencies, newest_steps: int = 0) -> None:
        self._service = service
        self._newest_steps = newest_steps
        self._queue = BatchQueue()
        self._cost = BatchCost()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One batch; raises RequestError and ValidationError for the handlers."""
        began, under_way = self._service.clock(), self._service.under_way
        overload = self._service.config.overload
        if under_way.total > overload.shed_above:  # batches are refused before single requests
            raise OverloadedError(overload.retry_after_s)
        under_way.batches += 1
        try:
            await self._answer(Request(scope, receive), send, began)
        finally:
            under_way.batches -= 1

    async def _answer(self, request: Request, send: Send, began: float) -> None:
        limits, clock = self._service.config.request, self._service.clock
        body = await read_body(request.receive, limits.max_batch_body_bytes, limits.body_timeout_s)
        rate_limit = rate_limit_of(request.scope)
        rate_limit.admit(body_steps(body))
        header_ms = header_deadline_ms(request.headers)
        limit_s = deadline_ms(limits.batch_deadline_ms, peeked_deadline_ms(body), header_ms) / 1e3
        size_bytes, items = len(body), await count_items(body, self._service.pacer)
        least_s, spent_s = self._cost.least_s(size_bytes, items), clock() - began
        check_deadline(limit_s, spent_s, least_s)
        wait_s = min(WAIT_FRACTION * limit_s, limit_s - spent_s - least_s)
        weight_bytes = max(size_bytes, items * ITEM_BYTES)
        async with self._queue.place(weight_bytes, wait_s, hold_s=limit_s):
            batch = await self._open(body, items, request, began, header_ms)
            # closed at once, not by the garbage collector: a caller who leaves pays for what was
            # read, and its calls are given up
            async with aclosing(self._parts(batch)) as parts:
                response = await _response(batch, parts, request.headers)
                await response(request.scope, request.receive, send)

    async def _open(
        self, body: bytes, items: int, request: Request, began: float, header_ms: float | None
    ) -> _Batch:
        service, size_bytes = self._service, len(body)
        opening = service.clock()
        reader, body_ms = await open_batch(
            body, service.config, service.pacer, service.clock, self._newest_steps
        )
        reader.took_s = service.clock() - opening
        limit_s = deadline_ms(service.config.request.batch_deadline_ms, body_ms, header_ms) / 1e3
        check_deadline(limit_s, service.clock() - began, self._cost.least_s(size_bytes, items))
        return _Batch(
            reader=reader,
            items=items,
            size_bytes=size_bytes,
            body_steps=body_steps(body),
            began=began,
            limit_s=limit_s,
            rate_limit=rate_limit_of(request.scope),
            request_id=partial(request_id, request.headers),
        )

    async def _parts(self, batch: _Batch) -> AsyncGenerator[list[Line]]:
        """Each item's ``"ok":{...}`` or ``"error":{...}`` with its index, as they become ready."""
        refused: list[Line] = []
        deadline, answering_s = batch.began + batch.limit_s, partial(self._answering_s, batch)
        many = self._service.forecaster.forecast_many
        async with (
            aclosing(self._valid(batch, refused)) as requests,
            aclosing(many(requests, deadline, answering_s)) as parts,
        ):
            async for part in parts:
                lines = [*refused]
                refused.clear()
                async for index, result in self._service.pacer.over(part):
                    if isinstance(result, Forecast):
                        lines.append((index, self._ok(result, batch)))
                    else:
                        lines.append((index, self._refusal(describe(result))))
                yield lines

    async def _valid(
        self, batch: _Batch, refused: list[Line]
    ) -> AsyncGenerator[tuple[int, ForecastRequest]]:
        """The valid items, as they are read; the errors of the others are added to ``refused``.

        Raises:
            InvalidRequestError: the deadline is too short for the items, once all are read.
        """
        reader = batch.reader
        try:
            async for index, item in reader:
                if isinstance(item, Described):
                    refused.append((index, self._refusal(item)))
                else:
                    yield index, item
        finally:  # also if the caller leaves
            batch.rate_limit.spend(max(0, reader.steps - batch.body_steps))
        self._cost.was_read(batch.size_bytes, reader.items, reader.took_s)
        if not batch.is_begun:
            spent_s = self._service.clock() - batch.began
            check_deadline(batch.limit_s, spent_s, self._answering_s(batch))

    def _answering_s(self, batch: _Batch) -> float:
        """The time to answer all items, as if those not read yet were like those that are."""
        read = max(1, batch.reader.items)
        items = max(batch.items, read)
        return self._cost.answering_s(items, batch.reader.steps * items // read)

    def _ok(self, forecast: Forecast, batch: _Batch) -> bytes:
        answered = self._service.clock()
        head = encode(forecast)
        now = self._service.clock()
        timings = timings_of(batch.began, None, answered, now, forecast)
        self._service.request_metrics.answered(
            Route.BATCH, now, forecast, timings, batch.request_id
        )
        state, age_s = forecast.breaker_state, forecast.cache_age_s
        return b'"ok":%b' % render(head, state, timings["total"], age_s)

    def _refusal(self, error: Described) -> bytes:
        self._service.request_metrics.refused(Route.BATCH, "refused")
        return b'"error":%b' % orjson.dumps(error.as_object())


async def _response(batch: _Batch, parts: AsyncIterator[list[Line]], headers: Headers) -> Response:
    first = await anext(parts)  # after reading all, unless many answers are cached
    if NDJSON in headers.get("accept", ""):
        batch.is_begun = True
        return StreamingResponse(_ndjson(first, parts), media_type=NDJSON)
    lines = sorted([*first, *[line async for part in parts for line in part]])
    content = b'{"results":[%b]}' % b",".join([b"{%b}" % result for _, result in lines])
    return Response(content, media_type="application/json")


async def _ndjson(first: list[Line], parts: AsyncIterator[list[Line]]) -> AsyncIterator[bytes]:
    yield _as_lines(first)
    async for lines in parts:
        yield _as_lines(lines)


def _as_lines(lines: list[Line]) -> bytes:
    return b"".join([b'{"index":%d,%b}\n' % line for line in lines])
