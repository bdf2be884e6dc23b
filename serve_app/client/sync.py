"""The client for ordinary code; `asynchronous` is the same for asyncio."""

import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
import orjson
from tenacity import Retrying

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


class Client:
    """Calls the service; close it, or use it in a ``with`` block.

    Args:
        url: of the service; TSFM_URL or http://127.0.0.1:8000 when it is not given.
        token: TSFM_TOKEN when it is not given.
        timeout_s: for one attempt of a call without a deadline.
        retries: how often and how soon to try again.
        transport: what carries the requests, for tests and special networks.
        sleep: how to wait between two attempts, in seconds.

    Methods raise `UnreachableError` and `ServiceError`.

    >>> from serve_app.client.sample import TRANSPORT  # a service that answers from memory
    >>> with Client(transport=TRANSPORT) as client:
    ...     forecast = client.forecast("m-1", [0.41, 0.42, 0.43], as_of="2026-02-20T12:00Z")
    >>> forecast.path(0.5)
    array([0.43, 0.43])
    >>> forecast.meta.runtime, forecast.meta.fallback_reason
    ('baseline', 'too_few_points')
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 35.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,  # noqa: TID251 - handed in, as clocks are
    ) -> None:
        self._connection = Connection.of(url, token, timeout_s)
        self._http = httpx.Client(**self._connection.settings(), transport=transport)
        self._retrier = Retrier(retries or Retries())
        self._sleep = sleep

    def forecast(
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
        return Forecast.from_wire(self._call("POST", "/tsfm/forecast", content, deadline_ms))

    def send(self, body: Mapping[str, Any], *, deadline_ms: float | None = None) -> Forecast:
        """Bands for a request that is a JSON object already."""
        content = orjson.dumps(body)
        return Forecast.from_wire(self._call("POST", "/tsfm/forecast", content, deadline_ms))

    def forecast_many(
        self, series: Bodies, *, deadline_ms: float | None = None, **options: Unpack[Options]
    ) -> Iterator[Item]:
        """Each result with the number of its request, as they come: a forecast or its error.

        Args:
            series: JSON objects of requests, or values by market id, such as a DataFrame with a
                column for each market; the options hold for all of these.
            deadline_ms: of each part; there is one for every few hundred requests.
        """
        for part in parts(bodies_of(series, options)):
            yield from self._stream(part, deadline_ms)

    def models(self) -> list[Model]:
        """The models that the service may serve."""
        return [Model.from_wire(m) for m in self._call("GET", "/tsfm/models")["models"]]

    def status(self) -> Mapping[str, Any]:
        """How the service is doing, as docs/api.md describes it."""
        status: Mapping[str, Any] = self._call("GET", "/tsfm/status")
        return status

    def order_breaker(self, model: str, action: BreakerAction) -> str:
        """The state of a model's breaker after an operator's order."""
        path = f"/tsfm/admin/breakers/{model}"
        answer = self._call("POST", path, orjson.dumps({"action": action}))
        return str(answer["state"])

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _call(
        self, method: str, path: str, content: bytes | None = None, deadline_ms: float | None = None
    ) -> Any:
        for attempt in self._attempts(deadline_ms):
            with attempt:
                elapsed_s = attempt.retry_state.seconds_since_start or 0.0
                limits = self._connection.limits(deadline_ms, elapsed_s)
                try:
                    answer = self._http.request(method, path, content=content, **limits)
                except httpx.HTTPError as exc:
                    raise self._connection.lost(exc) from exc
                value = self._connection.read(answer.status_code, answer.headers, answer.content)
        self._retrier.budget.succeeded()
        return value

    def _stream(self, waiting: Numbered, deadline_ms: float | None) -> Iterator[Item]:
        """What came is kept; only what is missing is asked for again."""
        for attempt in self._attempts(deadline_ms):
            with attempt:
                elapsed_s = attempt.retry_state.seconds_since_start or 0.0
                for item in self._lines(waiting, deadline_ms, elapsed_s):
                    del waiting[item[0]]
                    yield item
        self._retrier.budget.succeeded()

    def _lines(
        self, waiting: Numbered, deadline_ms: float | None, elapsed_s: float
    ) -> Iterator[Item]:
        limits, numbers = self._connection.limits(deadline_ms, elapsed_s), list(waiting)
        headers = {"accept": NDJSON} | limits.pop("headers", {})
        request = {"content": batch_body(waiting), "headers": headers, **limits}
        try:
            with self._http.stream("POST", "/tsfm/forecast/batch", **request) as answer:
                if answer.status_code != 200:
                    self._connection.read(answer.status_code, answer.headers, answer.read())
                for line in answer.iter_lines():
                    yield self._connection.item_of(line, numbers)
        except httpx.HTTPError as exc:
            raise self._connection.lost(exc) from exc
        if waiting:
            raise UnreachableError(self._connection.url, "the answer ended early")

    def _attempts(self, deadline_ms: float | None) -> Retrying:
        limit_s = None if deadline_ms is None else deadline_ms / 1e3
        return Retrying(**self._retrier.arguments(limit_s), sleep=self._sleep)
