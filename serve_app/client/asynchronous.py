"""The client for asyncio; `sync` is the same for ordinary code."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
import orjson
from tenacity import AsyncRetrying

from serve_app.client.answers import Forecast, Model
from serve_app.client.body import Options, request_body
from serve_app.client.connection import (
    NDJSON,
    Bodies,
    BreakerAction,
    Connection,
    Item,
    Numbered,
    batch_body,
    bodies_of,
    parts,
)
from serve_app.client.errors import UnreachableError
from serve_app.client.retries import Retrier, Retries


class AsyncClient:
    """Calls the service; close it, or use it in an ``async with`` block.

    Arguments and methods are those of `Client`, to be awaited; see there.

    >>> from serve_app.client.sample import TRANSPORT
    >>> async def medians() -> list[float]:
    ...     async with AsyncClient(transport=TRANSPORT) as client:
    ...         series = {"m-1": [0.41, 0.42], "m-2": [0.7, 0.8]}
    ...         items = client.forecast_many(series, as_of="2026-02-20T12:00Z")
    ...         return [item.path(0.5)[-1].item() async for _, item in items]
    >>> asyncio.run(medians())
    [0.42, 0.8]
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 35.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connection = Connection.of(url, token, timeout_s)
        self._http = httpx.AsyncClient(**self._connection.settings(), transport=transport)
        self._retrier = Retrier(retries or Retries())
        self._sleep = sleep

    async def forecast(
        self,
        market_id: str,
        y: Any,
        *,
        deadline_ms: float | None = None,
        **options: Unpack[Options],
    ) -> Forecast:
        """Bands for one market; see `request_body` for what ``y`` and the options may be.

        Raises:
            ValueError: a value cannot be sent.
        """
        content = orjson.dumps(request_body(market_id, y, **options))
        return Forecast.from_wire(await self._call("POST", "/tsfm/forecast", content, deadline_ms))

    async def send(self, body: Mapping[str, Any], *, deadline_ms: float | None = None) -> Forecast:
        """Bands for a request that is a JSON object already."""
        content = orjson.dumps(body)
        return Forecast.from_wire(await self._call("POST", "/tsfm/forecast", content, deadline_ms))

    async def forecast_many(
        self, series: Bodies, *, deadline_ms: float | None = None, **options: Unpack[Options]
    ) -> AsyncIterator[Item]:
        """Each result with the number of its request, as they come: a forecast or its error.

        Args:
            series: JSON objects of requests, or values by market id, such as a DataFrame with a
                column for each market; the options hold for all of these.
            deadline_ms: of each part; there is one for every few hundred requests.
        """
        for part in parts(bodies_of(series, options)):
            async for item in self._stream(part, deadline_ms):
                yield item

    async def models(self) -> list[Model]:
        """The models that the service may serve."""
        answer = await self._call("GET", "/tsfm/models")
        return [Model.from_wire(m) for m in answer["models"]]

    async def status(self) -> Mapping[str, Any]:
        """How the service is doing, as docs/api.md describes it."""
        status: Mapping[str, Any] = await self._call("GET", "/tsfm/status")
        return status

    async def order_breaker(self, model: str, action: BreakerAction) -> str:
        """The state of a model's breaker after an operator's order."""
        path = f"/tsfm/admin/breakers/{model}"
        answer = await self._call("POST", path, orjson.dumps({"action": action}))
        return str(answer["state"])

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, *_: type[BaseException] | BaseException | TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self, method: str, path: str, content: bytes | None = None, deadline_ms: float | None = None
    ) -> Any:
        async for attempt in self._attempts(deadline_ms):
            with attempt:
                elapsed_s = attempt.retry_state.seconds_since_start or 0.0
                limits = self._connection.limits(deadline_ms, elapsed_s)
                try:
                    answer = await self._http.request(method, path, content=content, **limits)
                except httpx.HTTPError as exc:
                    raise self._connection.lost(exc) from exc
                value = self._connection.read(answer.status_code, answer.headers, answer.content)
        self._retrier.budget.succeeded()
        return value

    async def _stream(self, waiting: Numbered, deadline_ms: float | None) -> AsyncIterator[Item]:
        """What came is kept; only what is missing is asked for again."""
        async for attempt in self._attempts(deadline_ms):
            with attempt:
                elapsed_s = attempt.retry_state.seconds_since_start or 0.0
                async for item in self._lines(waiting, deadline_ms, elapsed_s):
                    del waiting[item[0]]
                    yield item
        self._retrier.budget.succeeded()

    async def _lines(
        self, waiting: Numbered, deadline_ms: float | None, elapsed_s: float
    ) -> AsyncIterator[Item]:
        limits, numbers = self._connection.limits(deadline_ms, elapsed_s), list(waiting)
        headers = {"accept": NDJSON} | limits.pop("headers", {})
        request = {"content": batch_body(waiting), "headers": headers, **limits}
        try:
            async with self._http.stream("POST", "/tsfm/forecast/batch", **request) as answer:
                if answer.status_code != 200:
                    self._connection.read(answer.status_code, answer.headers, await answer.aread())
                async for line in answer.aiter_lines():
                    yield self._connection.item_of(line, numbers)
        except httpx.HTTPError as exc:
            raise self._connection.lost(exc) from exc
        if waiting:
            raise UnreachableError(self._connection.url, "the answer ended early")

    def _attempts(self, deadline_ms: float | None) -> AsyncRetrying:
        limit_s = None if deadline_ms is None else deadline_ms / 1e3
        return AsyncRetrying(**self._retrier.arguments(limit_s), sleep=self._sleep)
