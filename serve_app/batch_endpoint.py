"""``POST /tsfm/forecast/batch``: many requests in one body, one deadline, one result for each.

A bad item is an error for itself alone. As JSON the results come in order; as NDJSON each leaves
with its index as soon as it is there.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from runner.answers import Forecast
from runner.errors import BatchTooLongError, InvalidRequestError, RequestError
from runner.types import ForecastRequest
from serve_app.admission import deadline_ms, header_deadline_ms, read_body
from serve_app.allowance import allowance_of, body_steps, series_steps
from serve_app.encoding import Circumstances, encode
from serve_app.errors import error_object, request_id
from serve_app.schemas import BatchWire, ForecastWire, LooseBatchWire, to_request
from serve_app.service import Service
from serve_app.stages import stages_of
from serve_app.watch import Route

NDJSON = "application/x-ndjson"

Parsed = ForecastWire | ValidationError
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
        wires, field_ms = parse_batch(body)
        if len(wires) > limits.max_batch_requests:
            raise BatchTooLongError(limits.max_batch_requests)
        steps = sum(series_steps(w, limits) for w in wires if isinstance(w, ForecastWire))
        allowance.spend(max(0, steps - body_steps(body)))
        header_ms = header_deadline_ms(request.headers)
        limit_ms = deadline_ms(limits.batch_deadline_ms, field_ms, header_ms)
        called = partial(request_id, request.headers)
        lines = self._lines(wires, began, began + limit_ms / 1e3, called)
        if NDJSON in request.headers.get("accept", ""):
            return StreamingResponse(_ndjson(lines), media_type=NDJSON)
        results = [result async for _, result in _in_order(lines)]
        content = b'{"results":[%b]}' % b",".join(results)
        return Response(content, media_type="application/json")

    async def _lines(
        self,
        wires: list[Parsed],
        began: float,
        deadline: float,
        called: Callable[[], str],
    ) -> AsyncIterator[Line]:
        """Each item's ``"ok":{...}`` or ``"error":{...}`` with its index, as they come."""
        refused: list[Line] = []
        requests = self._sound(wires, refused)
        async for index, result in self._service.bulk.forecast(requests, deadline):
            while refused:
                yield refused.pop()
            if isinstance(result, Forecast):
                yield index, self._ok(result, began, called)
            else:
                yield index, self._refusal(result)
        for line in refused:
            yield line

    def _sound(
        self, wires: Sequence[Parsed], refused: list[Line]
    ) -> Iterator[tuple[int, ForecastRequest]]:
        """The items that can be asked, one at a time; the others' answers go to ``refused``."""
        for index, wire in enumerate(wires):
            try:
                request = self._convert(wire)
            except (RequestError, ValidationError) as error:
                refused.append((index, self._refusal(error)))
            else:
                yield index, request

    def _convert(self, wire: Parsed) -> ForecastRequest:
        if isinstance(wire, ValidationError):
            raise wire
        if wire.deadline_ms is not None:
            raise InvalidRequestError("deadline_ms", "Set it once, for the whole batch.")
        config = self._service.config
        return to_request(wire, config.request, config.transform)

    def _ok(self, forecast: Forecast, began: float, called: Callable[[], str]) -> bytes:
        answered = self._service.clock()
        encoded = encode(forecast)
        now = self._service.clock()
        stages = stages_of(began, None, answered, now, forecast)
        self._service.watch.answered(Route.BATCH, now, forecast, stages, called)
        circumstances = Circumstances(forecast.breaker_state, stages.total_ms, forecast.cache_age_s)
        return b'"ok":%b' % encoded.fill(circumstances)

    def _refusal(self, error: RequestError | ValidationError) -> bytes:
        self._service.watch.refused(Route.BATCH, "refused")
        return b'"error":%b' % orjson.dumps(error_object(error))


def parse_batch(body: bytes) -> tuple[list[Parsed], float | None]:
    """Every item or what is wrong with it, and the batch's own deadline in ms.

    A sound body takes one pass. Only where that fails are the items looked at one by one.

    Raises:
        ValidationError: the body is no batch at all.
    """
    try:
        batch = BatchWire.model_validate_json(body)
    except ValidationError:
        loose = LooseBatchWire.model_validate_json(body)
        return [_parse_item(item) for item in loose.requests], loose.deadline_ms
    return list(batch.requests), batch.deadline_ms


def _parse_item(item: Any) -> Parsed:
    try:
        return ForecastWire.model_validate_json(json.dumps(item))  # json keeps NaN to be refused
    except ValidationError as refused:
        return refused


async def _in_order(lines: AsyncIterator[Line]) -> AsyncIterator[Line]:
    for index, result in sorted([line async for line in lines], key=lambda line: line[0]):
        yield index, b"{%b}" % result


async def _ndjson(lines: AsyncIterator[Line]) -> AsyncIterator[bytes]:
    async for index, result in lines:
        yield b'{"index":%d,%b}\n' % (index, result)
