"""The blocking and the asyncio client: the I/O around `calls`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from runner.types import BreakerCommand
from serve_app.client.answers import ClientError, Forecast, Model
from serve_app.client.body import Options, request_body
from serve_app.client.calls import Bodies, Call, Caller, Item, batches

T = TypeVar("T")
P = ParamSpec("P")


class Client(Caller):
    """Calls the service; close it, or use it in a ``with`` block. `Caller` has its arguments.

    Methods raise `UnreachableError` and `ServiceError`, and ValueError for what cannot be sent.

    >>> from serve_app.http.openapi.examples import MODEL_ANSWER
    >>> service = httpx.MockTransport(lambda request: httpx.Response(200, json=MODEL_ANSWER))
    >>> with Client(transport=service) as client:
    ...     forecast = client.forecast("m-1", [0.41, 0.42, 0.43], as_of="2026-02-20T12:00Z")
    >>> forecast.path(0.5)[:3], forecast.meta.model_name
    (array([0.4481, 0.4522, 0.4613]), 'fracast-0')
    """

    http_type = httpx.Client
    own_sleep = staticmethod(time.sleep)  # noqa: TID251 - the caller's own thread waits

    def forecast(self, market_id: str, y: Any, **options: Unpack[Options]) -> Forecast:
        """Bands for one market; see `request_body` for what ``y`` and the options may be."""
        deadline_ms = options.get("deadline_ms")
        return self.send(request_body(market_id, y, **options), deadline_ms=deadline_ms)

    def send(self, body: Mapping[str, Any], *, deadline_ms: float | None = None) -> Forecast:
        """Bands for a request that is a JSON object already."""
        return self._ask(Call(self, "/tsfm/forecast", Forecast, body, deadline_ms))

    def forecast_many(self, series: Bodies, **options: Unpack[Options]) -> Iterator[Item]:
        """Each result with the number of its request, as they arrive: a forecast or an error.

        ``series`` are JSON objects of requests, or values by market id, such as a DataFrame with a
        column for each market; the options hold for all of these, a deadline for each batch.
        """
        return self._run(batches(self, series, options))

    def models(self) -> list[Model]:
        """The models that the service may serve."""
        call = Call(self, "/tsfm/models", lambda value: [*map(Model.from_wire, value["models"])])
        return self._ask(call)

    def status(self) -> Mapping[str, Any]:
        """The status of the service, as docs/api.md describes it."""
        return self._ask(Call(self, "/tsfm/status", dict))

    def order_breaker(self, model: str, action: str) -> str:
        """Sends a `BreakerCommand` for a model; returns the breaker's new state."""
        path, body = f"/tsfm/admin/breakers/{model}", {"action": BreakerCommand(action)}
        return self._ask(Call(self, path, lambda value: str(value["state"]), body))

    def close(self) -> None:
        """Closes the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, call: Call[T]) -> T:
        (value,) = self._run([call])
        return value

    def _run(self, calls: Iterable[Call[T]]) -> Iterator[T]:
        for call in calls:
            while not call.done:
                try:
                    with self.http.stream(**call.request()) as answer:
                        for chunk in answer.iter_bytes():
                            yield from call.feed(answer, chunk)
                        yield from call.end(answer)
                except (httpx.HTTPError, ClientError) as exc:
                    self.sleep(call.pause_s(exc))


def _awaited(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The same method; what it gets from `_ask` is to be awaited there."""
    return method  # type: ignore[return-value] # what it returns is up to `self`


def _streamed(
    method: Callable[Concatenate[Any, P], Iterator[T]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """The same method; what it gets from `_run` is for an ``async for`` there."""
    return method  # type: ignore[return-value] # likewise


class AsyncClient(Caller):
    """`Client` for asyncio: the same arguments and methods, to be awaited.

    >>> from serve_app.http.openapi.examples import MODEL_ANSWER
    >>> line = {"index": 0, "ok": MODEL_ANSWER}
    >>> service = httpx.MockTransport(lambda request: httpx.Response(200, json=line))
    >>> async def medians() -> list[float]:
    ...     async with AsyncClient(transport=service) as client:
    ...         items = client.forecast_many({"m-1": [0.41, 0.42]}, as_of="2026-02-20T12:00Z")
    ...         return [item.path(0.5)[0].item() async for _, item in items]
    >>> asyncio.run(medians())
    [0.4481]
    """

    http_type = httpx.AsyncClient
    own_sleep = staticmethod(asyncio.sleep)

    forecast = _awaited(Client.forecast)
    send = _awaited(Client.send)
    forecast_many = _streamed(Client.forecast_many)
    models = _awaited(Client.models)
    status = _awaited(Client.status)
    order_breaker = _awaited(Client.order_breaker)

    async def close(self) -> None:
        """Closes the connections."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, call: Call[T]) -> T:
        (value,) = [value async for value in self._run([call])]
        return value

    async def _run(self, calls: Iterable[Call[T]]) -> AsyncIterator[T]:
        for call in calls:
            while not call.done:
                try:
                    async with self.http.stream(**call.request()) as answer:
                        async for chunk in answer.aiter_bytes():
                            for item in call.feed(answer, chunk):
                                yield item
                        for item in call.end(answer):
                            yield item
                except (httpx.HTTPError, ClientError) as exc:
                    await self.sleep(call.pause_s(exc))
