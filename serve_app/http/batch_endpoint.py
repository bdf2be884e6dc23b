"""``POST /tsfm/forecast/batch``: many requests in one body, one deadline, one result for each.

An invalid item gets an error of its own. As JSON the results are in order; as NDJSON each is sent
with its index as soon as it is ready.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runner.errors import OverloadedError
from runner.forecast.answers import Forecast
from runner.types import ForecastRequest
from serve_app.auth.rate_limit import body_steps, rate_limit_of
from serve_app.http.batch_admission import (
    ITEM_BYTES,
    BatchCost,
    BatchQueue,
    check_deadline,
    count_items,
    peeked_deadline_ms,
)
from serve_app.http.bodies.forecast import Parsed, read_batch
from serve_app.http.errors import Described, describe, request_id
from serve_app.http.forecast_endpoint import encode, render
from serve_app.http.requests import deadline_ms, header_deadline_ms, read_body
from serve_app.http.service import Dependencies
from serve_app.telemetry.request_metrics import Route, timings_of

NDJSON = "application/x-ndjson"

Line = tuple[int, bytes]
WAIT_FRACTION = 0.5  # of a batch's time limit, for waiting: the rest is for its answers


WARM_UP_ITEMS = 100  # fewer leave the first batch slower than later ones


async def warm_up_batches(service: Dependencies) -> None:
    """Reads, answers and encodes one batch: the first in a process takes 50 ms longer.

    Its series are too short for the model, so the baseline alone is asked; nothing is learned.
    """
    market = {"as_of_ts": "2026-01-01T00:00:00Z", "y": [0.5, 0.5], "observe": False}
    requests = [{"market_id": str(i), **market} for i in range(WARM_UP_ITEMS)]
    batch = await read_batch(orjson.dumps({"requests": requests}), service.config, service.pacer)
    valid = enumerate(item for item in batch.items if isinstance(item, ForecastRequest))
    deadline = service.clock() + service.config.request.batch_deadline_ms / 1e3
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
            response = await self._response(body, request, began, header_ms)
            await response(request.scope, request.receive, send)

    async def _response(
        self, body: bytes, request: Request, began: float, header_ms: float | None
    ) -> Response:
        limits, clock = self._service.config.request, self._service.clock
        reading = clock()
        batch = await read_batch(
            body, self._service.config, self._service.pacer, self._newest_steps
        )
        items, steps = batch.items, batch.steps
        self._cost.was_read(len(body), len(items), clock() - reading)
        rate_limit_of(request.scope).spend(max(0, steps - body_steps(body)))
        limit_s = deadline_ms(limits.batch_deadline_ms, batch.deadline_ms, header_ms) / 1e3
        answering_s = self._cost.answering_s(len(items), steps)
        check_deadline(limit_s, clock() - began, answering_s)
        called = partial(request_id, request.headers)
        parts = self._parts(items, began, began + limit_s, answering_s, called)
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_ndjson(parts), media_type=NDJSON)
        lines = sorted([line async for part in parts for line in part])
        content = b'{"results":[%b]}' % b",".join([b"{%b}" % result for _, result in lines])
        return Response(content, media_type="application/json")

    async def _parts(
        self,
        items: list[Parsed],
        began: float,
        deadline: float,
        answering_s: float,
        called: Callable[[], str],
    ) -> AsyncIterator[list[Line]]:
        """Each item's ``"ok":{...}`` or ``"error":{...}`` with its index, as they become ready."""
        refused: list[Line] = []
        requests = self._valid(items, refused)
        async for part in self._service.forecaster.forecast_many(requests, deadline, answering_s):
            lines = [*refused]
            refused.clear()
            async for index, result in self._service.pacer.over(part):
                if isinstance(result, Forecast):
                    lines.append((index, self._ok(result, began, called)))
                else:
                    lines.append((index, self._refusal(describe(result))))
            yield lines

    def _valid(
        self, items: Sequence[Parsed], refused: list[Line]
    ) -> Iterator[tuple[int, ForecastRequest]]:
        """The valid items, one at a time; the errors of the others are added to ``refused``."""
        for index, item in enumerate(items):
            if isinstance(item, Described):
                refused.append((index, self._refusal(item)))
            else:
                yield index, item

    def _ok(self, forecast: Forecast, began: float, called: Callable[[], str]) -> bytes:
        answered = self._service.clock()
        head = encode(forecast)
        now = self._service.clock()
        timings = timings_of(began, None, answered, now, forecast)
        self._service.request_metrics.answered(Route.BATCH, now, forecast, timings, called)
        state, age_s = forecast.breaker_state, forecast.cache_age_s
        return b'"ok":%b' % render(head, state, timings["total"], age_s)

    def _refusal(self, error: Described) -> bytes:
        self._service.request_metrics.refused(Route.BATCH, "refused")
        return b'"error":%b' % orjson.dumps(error.as_object())


async def _ndjson(parts: AsyncIterator[list[Line]]) -> AsyncIterator[bytes]:
    async for lines in parts:
        yield b"".join([b'{"index":%d,%b}\n' % line for line in lines])
