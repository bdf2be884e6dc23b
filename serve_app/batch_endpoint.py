"""``POST /tsfm/forecast/batch``: many requests in one body, one deadline, one result for each.

A bad item is an error for itself alone. As JSON the results come in order; as NDJSON each leaves
with its index as soon as it is there.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runner.answers import Forecast
from runner.types import ForecastRequest
from serve_app.admission import deadline_ms, header_deadline_ms, read_body
from serve_app.allowance import allowance_of, body_steps
from serve_app.batch_body import Parsed, read_batch
from serve_app.body_limits import Pace
from serve_app.encoding import Circumstances, encode
from serve_app.errors import Described, describe, request_id
from serve_app.service import Service
from serve_app.stages import stages_of
from serve_app.watch import Route

NDJSON = "application/x-ndjson"

Line = tuple[int, bytes]


class BatchEndpoint:
    """Answers a list of requests."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> Response:
        """One batch; raises RequestError and ValidationError for the handlers."""
        began = self._service.clock()
        limits = self._service.config.request
        body = await read_body(request.receive, limits.max_batch_body_bytes, limits.body_timeout_s)
        allowance = allowance_of(request.scope)
        allowance.admit(body_steps(body))
        batch = await read_batch(body, self._service.config, Pace(self._service.clock))
        allowance.spend(max(0, batch.steps - body_steps(body)))
        header_ms = header_deadline_ms(request.headers)
        limit_ms = deadline_ms(limits.batch_deadline_ms, batch.deadline_ms, header_ms)
        called = partial(request_id, request.headers)
        lines = self._lines(batch.items, began, began + limit_ms / 1e3, called)
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_ndjson(lines), media_type=NDJSON)
        results = [result async for _, result in _in_order(lines)]
        content = b'{"results":[%b]}' % b",".join(results)
        return Response(content, media_type="application/json")

    async def _lines(
        self,
        items: list[Parsed],
        began: float,
        deadline: float,
        called: Callable[[], str],
    ) -> AsyncIterator[Line]:
        """Each item's ``"ok":{...}`` or ``"error":{...}`` with its index, as they come."""
        refused: list[Line] = []
        requests = self._sound(items, refused)
        async for index, result in self._service.bulk.forecast(requests, deadline):
            while refused:
                yield refused.pop()
            if isinstance(result, Forecast):
                yield index, self._ok(result, began, called)
            else:
                yield index, self._refusal(describe(result))
        for line in refused:
            yield line

    def _sound(
        self, items: Sequence[Parsed], refused: list[Line]
    ) -> Iterator[tuple[int, ForecastRequest]]:
        """The items that can be asked, one at a time; the others' answers go to ``refused``."""
        for index, item in enumerate(items):
            if isinstance(item, Described):
                refused.append((index, self._refusal(item)))
            else:
                yield index, item

    def _ok(self, forecast: Forecast, began: float, called: Callable[[], str]) -> bytes:
        answered = self._service.clock()
        encoded = encode(forecast)
        now = self._service.clock()
        stages = stages_of(began, None, answered, now, forecast)
        self._service.watch.answered(Route.BATCH, now, forecast, stages, called)
        circumstances = Circumstances(forecast.breaker_state, stages.total_ms, forecast.cache_age_s)
        return b'"ok":%b' % encoded.fill(circumstances)

    def _refusal(self, error: Described) -> bytes:
        self._service.watch.refused(Route.BATCH, "refused")
        return b'"error":%b' % orjson.dumps(error.as_object())


async def _in_order(lines: AsyncIterator[Line]) -> AsyncIterator[Line]:
    for index, result in sorted([line async for line in lines], key=lambda line: line[0]):
        yield index, b"{%b}" % result


async def _ndjson(lines: AsyncIterator[Line]) -> AsyncIterator[bytes]:
    async for index, result in lines:
        yield b'{"index":%d,%b}\n' % (index, result)
