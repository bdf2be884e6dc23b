"""The blocking and the asyncio client: settings, calls without I/O, and the I/O around them."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

import httpx
import orjson

from tsfm_client.answers import (
    ClientError,
    Forecast,
    Model,
    ServiceError,
    UnreachableError,
    service_error,
)
from tsfm_client.body import Options, request_body

DEFAULT_URL = "http://127.0.0.1:8000"
# requests to this machine do not use a proxy of the environment
_NO_PROXY = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
_RETRIED_STATUS = (429, 502, 503, 504)  # forecasts are idempotent: a retry is safe
MAX_BATCH_REQUESTS = 500  # a service takes 2,000; shorter parts show results sooner
MAX_BATCH_BYTES = 8_000_000
_MARGIN_S = 1.0  # over the deadline, for the network

T = TypeVar("T")
P = ParamSpec("P")
Bodies = Iterable[Mapping[str, Any]] | Mapping[str, Any]
Item = tuple[int, Forecast | ServiceError]


@dataclass(frozen=True, slots=True)
class Retries:
    """The retry policy of a client; ``attempts=1`` disables retries.

    The first call is one of the `attempts`. Pauses double, with jitter; a ``Retry-After`` over
    `longest_wait_s` is not waited for. Failures take one of the `tokens`, successes give `ratio` of
    one back, and while less than half of them are left there are no retries.
    """

    attempts: int = 3
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    tokens: float = 10.0
    ratio: float = 0.1


class Caller:
    """Base class of both clients: settings, HTTP connections and retry policy.

    ``url`` and ``token`` are by default those in TSFM_URL and TSFM_TOKEN. ``timeout_s`` is for one
    attempt of a call without a deadline; ``transport`` an httpx transport; ``sleep`` waits between
    two attempts, in seconds, and is a coroutine function for asyncio.
    """

    http_type: Any
    own_sleep: Any

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 35.0,
        retries: Retries = Retries(),
        transport: Any = None,
        sleep: Callable[[float], Any] | None = None,
    ) -> None:
        self.url = (url or os.environ.get("TSFM_URL") or DEFAULT_URL).rstrip("/")
        address = httpx.URL(self.url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"{self.url!r} is no address; write it like {DEFAULT_URL}")
        headers = {"user-agent": "tsfm-client", "content-type": "application/json"}
        if token := token or os.environ.get("TSFM_TOKEN"):
            headers["authorization"] = f"Bearer {token}"
        settings = {"base_url": self.url, "headers": headers, "mounts": _NO_PROXY}
        self.http = self.http_type(**settings, transport=transport)
        self.sleep = sleep or self.own_sleep
        self.timeout_s, self._retries = timeout_s, retries
        self._tokens = retries.tokens
        self.clock = time.monotonic  # noqa: TID251 - of deadlines, which end in real time

    def pause_s(self, failure: ClientError, attempts: int, left_s: float) -> float:
        """Seconds to wait before the next attempt; raises the failure if there is none."""
        retries = self._retries
        asked_s: float | None = getattr(failure, "retry_after_s", None)
        if isinstance(failure, ServiceError) and failure.status not in _RETRIED_STATUS:
            raise failure from None  # the text says it; httpx's errors would fill a screen
        if asked_s is not None and asked_s > retries.longest_wait_s:
            raise failure from None
        self._tokens = max(0.0, self._tokens - 1.0)
        grown_s = min(retries.longest_wait_s, retries.first_wait_s * 2 ** (attempts - 1))
        pause_s = grown_s * (0.5 + random.random()) if asked_s is None else asked_s
        is_spent = self._tokens <= retries.tokens / 2
        if attempts >= retries.attempts or is_spent or pause_s >= left_s:
            raise failure from None
        return pause_s

    def succeeded(self) -> None:
        """A call has succeeded: it gives a part of a token back."""
        self._tokens = min(self._retries.tokens, self._tokens + self._retries.ratio)


class Call(Generic[T]):
    """One call and its attempts, until it is `done`; ``read`` makes its result of JSON."""

    done = False

    def __init__(
        self,
        caller: Caller,
        path: str,
        read: Callable[[Any], T],
        body: Any = None,
        deadline_ms: float | None = None,
        method: str | None = None,
    ) -> None:
        self._caller, self._path, self._read = caller, path, read
        self._method = method or ("GET" if body is None else "POST")
        self._content = None if body is None else orjson.dumps(body)
        self._end_s = inf if deadline_ms is None else caller.clock() + deadline_ms / 1e3
        self._attempts, self._bytes = 0, b""

    def request(self) -> dict[str, Any]:
        """Arguments of the httpx request, with the remaining deadline as a header."""
        self._attempts, self._bytes = self._attempts + 1, b""
        request = {"method": self._method, "url": self._path, "content": self._content}
        left_s = max(1e-3, self._end_s - self._caller.clock())
        if left_s == inf:
            return request | {"headers": {}, "timeout": self._caller.timeout_s}
        headers = {"x-request-deadline-ms": f"{left_s * 1e3:.0f}"}
        return request | {"headers": headers, "timeout": left_s + _MARGIN_S}

    def feed(self, answer: httpx.Response, chunk: bytes) -> Iterator[T]:
        """Yields the results that are complete after these bytes of an answer."""
        self._bytes += chunk
        yield from ()

    def end(self, answer: httpx.Response) -> Iterator[T]:
        """Yields the results of a complete answer; raises its error."""
        try:
            value = orjson.loads(self._bytes)
            if answer.status_code != 200:
                asked = answer.headers.get("retry-after", "")  # proxies may send a date
                wait_s = float(asked) if asked.isdigit() else None
                raise service_error(answer.status_code, value["error"], wait_s)
            result = self._read(value)
        except (ValueError, LookupError, TypeError) as exc:
            why = f"something that is not this service answered with status {answer.status_code}"
            raise UnreachableError(self._caller.url, why) from exc
        self._succeeded()
        yield result

    def pause_s(self, error: httpx.HTTPError | ClientError) -> float:
        """Seconds to wait before the next attempt; raises the failure if there is none."""
        failure = error if isinstance(error, ClientError) else _lost(self._caller.url, error)
        left_s = self._end_s - self._caller.clock()
        return self._caller.pause_s(failure, self._attempts, left_s)

    def _succeeded(self) -> None:
        self._caller.succeeded()
        self.done = True


class Batch(Call[Item]):
    """A part of many requests; a retry sends only those without a result."""

    def __init__(self, caller: Caller, waiting: dict[int, bytes], limit_ms: float | None) -> None:
        super().__init__(caller, "/tsfm/forecast/batch", self._item, None, limit_ms, "POST")
        self._waiting, self._numbers = waiting, list(waiting)

    def request(self) -> dict[str, Any]:
        """Sends the requests without a result."""
        self._numbers = list(self._waiting)
        self._content = b'{"requests":[%b]}' % b",".join(self._waiting.values())
        request = super().request()
        request["headers"]["accept"] = "application/x-ndjson"
        return request

    def feed(self, answer: httpx.Response, chunk: bytes) -> Iterator[Item]:
        """Yields the items of complete lines; a market id may contain other line breaks."""
        self._bytes += chunk
        if answer.status_code == 200:
            *lines, self._bytes = self._bytes.split(b"\n")
            yield from map(self._item, lines)

    def end(self, answer: httpx.Response) -> Iterator[Item]:
        """Yields the item of a last line without a line break."""
        if answer.status_code != 200:
            yield from super().end(answer)
        if self._bytes:
            yield self._item(self._bytes)
        if self._waiting:
            raise UnreachableError(self._caller.url, "the answer ended early")
        self._succeeded()

    def _item(self, line: bytes) -> Item:
        try:
            value = orjson.loads(line)
            number = self._numbers[value["index"]]
            error = value.get("error")
            result = service_error(0, error) if error else Forecast(value["ok"])
            del self._waiting[number]
        except (ValueError, LookupError, TypeError) as exc:
            raise UnreachableError(self._caller.url, "the answer was cut short") from exc
        return number, result


def batches(caller: Caller, series: Any, options: Options) -> Iterator[Batch]:
    """The requests in batches within the service's limits, in order."""
    bodies = series
    if hasattr(series, "items"):
        bodies = (request_body(str(name), y, **options) for name, y in series.items())
    for part in parts(orjson.dumps(body) for body in bodies):
        yield Batch(caller, part, options.get("deadline_ms"))


def parts(bodies: Iterable[bytes]) -> Iterator[dict[int, bytes]]:
    """Numbered bodies in parts within the limits of a batch."""
    part: dict[int, bytes] = {}
    size = 0
    for number, body in enumerate(bodies):
        if part and (len(part) == MAX_BATCH_REQUESTS or size + len(body) > MAX_BATCH_BYTES):
            yield part
            part, size = {}, 0
        part[number] = body
        size += len(body)
    if part:
        yield part


def _lost(url: str, error: httpx.HTTPError) -> UnreachableError:
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(url, "no answer in time")
    if isinstance(error, httpx.ConnectError):
        return UnreachableError(url, "nothing listens there, or the name is unknown")
    return UnreachableError(url, "the connection broke")


class Client(Caller):
    """Calls the service; close it, or use it in a ``with`` block. `Caller` has its arguments.

    Methods raise `UnreachableError` and `ServiceError`, and ValueError for what cannot be sent.

    >>> from serve_app.http.openapi.document import MODEL_ANSWER
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

    def skill(self) -> Mapping[str, Any]:
        """How each model does beside the baseline, as docs/api.md describes it."""
        return self._ask(Call(self, "/tsfm/skill", dict))

    def status(self) -> Mapping[str, Any]:
        """The status of the service, as docs/api.md describes it."""
        return self._ask(Call(self, "/tsfm/status", dict))

    def order_breaker(self, model: str, action: str) -> str:
        """Sends `force_open`, `force_closed` or `reset` for a model; returns the new state."""
        path, body = f"/tsfm/admin/breakers/{model}", {"action": action}
        return self._ask(Call(self, path, lambda value: str(value["state"]), body))

    def show_board(self, watch: str, board: Mapping[str, Any]) -> int:
        """Shows the markets of a watch on the console's first page; returns their number."""
        call = Call(self, f"/tsfm/board/{watch}", lambda v: int(v["markets"]), board, None, "PUT")
        return self._ask(call)

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
    """`Client` for asyncio: the same arguments and methods, to be awaited."""

    http_type = httpx.AsyncClient
    own_sleep = staticmethod(asyncio.sleep)

    forecast = _awaited(Client.forecast)
    send = _awaited(Client.send)
    forecast_many = _streamed(Client.forecast_many)
    models = _awaited(Client.models)
    skill = _awaited(Client.skill)
    status = _awaited(Client.status)
    order_breaker = _awaited(Client.order_breaker)
    show_board = _awaited(Client.show_board)

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
