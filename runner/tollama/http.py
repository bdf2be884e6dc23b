"""HTTP to the runtime, only in this module: one bounded exchange; failures are ``ModelError``."""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from runner.config.sections import TollamaSection
from runner.errors import (
    BadOutputError,
    ConfigError,
    ModelError,
    ModelNotInstalledError,
    RuntimeCircuitOpenError,
    RuntimeFailedError,
    RuntimeOverloadedError,
    RuntimeRejectedError,
    RuntimeTooLargeError,
    RuntimeUnauthorizedError,
    RuntimeUnreachableError,
)

# A piece of an answer costs about 50 us at any size, and one read, which blocks the event loop, can
# bring 10,000 pieces of one byte: this limits the number of pieces that are shorter than usual.
_FREE_PIECES, _USUAL_PIECE = 200, 100  # bytes
_KEEPALIVE_S = 4.0  # uvicorn, under tollama, closes idle connections after 5 s: close earlier

LIST_LIMIT_S = 2.0  # of a list of models, which the runtime has in memory
LIST_BYTES = 1_000_000  # the same; some 5,000 models
CIRCUIT_WAIT_S = 16.0  # tollama's own breaker stays open for 15 s
_ERRORS: dict[int, tuple[type[ModelError], str]] = {  # 429, 503 and all others: see error_for
    400: (RuntimeRejectedError, "the runtime refused the request"),
    401: (RuntimeUnauthorizedError, "the runtime wants another key"),
    403: (RuntimeUnauthorizedError, "the runtime wants another key or an accepted licence"),
    404: (ModelNotInstalledError, "the runtime has no such model or path; is base_url right?"),
    413: (RuntimeTooLargeError, "the request is over the runtime's limit"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: ``status`` is 200, or 400 for a refusal; its body may name the bad series."""

    status: int
    body: bytes
    connection: Any = field(default=None, compare=False, repr=False)

    async def hang_up(self) -> None:
        """Closes its connection: after a bad answer, later ones may belong to other requests."""
        if self.connection is not None:
            await self.connection.aclose()


class RuntimeHttp:
    """The connections to one runtime: no proxies from the environment, no redirects, no cookies.

    It uses httpx's transport: a client above it costs a quarter of the CPU of an exchange. Only
    connecting has a time limit, since httpx applies the others to each read alone;
    ``TollamaRuntime`` limits the whole.
    """

    def __init__(
        self,
        settings: TollamaSection,
        base_url: object,
        transport: httpx.AsyncBaseTransport | None = None,
        prepare: Callable[[httpx.Request], None] | None = None,
    ) -> None:
        """``prepare`` adds headers to each request; raises ConfigError for an invalid API key."""
        self._base = str(base_url).rstrip("/")
        self._url = f"{self._base}/v1/forecast"
        self._headers = _headers(settings)
        self._extensions = {"timeout": {"connect": settings.timeout_s}}
        self._transport = transport or _transport(settings)
        self._prepare = prepare

    async def post(self, body: bytes, *, max_bytes: int) -> Answer:
        """One forecast request and its whole answer; the caller limits the time.

        Raises:
            ModelError: the connection failed, the answer is over ``max_bytes`` or invalid, or its
                status is neither 200 nor 400.
        """
        request = httpx.Request(
            "POST", self._url, headers=self._headers, content=body, extensions=self._extensions
        )
        if self._prepare is not None:
            self._prepare(request)
        try:
            response = await self._transport.handle_async_request(request)
            async with aclosing(response):
                return await _read(response, max_bytes)
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise RuntimeUnreachableError("no connection") from exc
        except httpx.HTTPError as exc:
            raise RuntimeUnreachableError("the connection broke before the answer ended") from exc

    async def model_names(self, path: str) -> frozenset[str] | None:
        """The models in one of tollama's lists, ``/api/tags`` or ``/api/ps``; None without one."""
        request = httpx.Request(
            "GET", self._base + path, headers=self._headers, extensions=self._extensions
        )
        try:
            async with asyncio.timeout(LIST_LIMIT_S):
                response = await self._transport.handle_async_request(request)
                async with aclosing(response):
                    answer = await _read(response, LIST_BYTES)
            models = orjson.loads(answer.body)["models"]
            return frozenset(str(model["name"]).removesuffix(":latest") for model in models)
        except (httpx.HTTPError, TimeoutError, ModelError, ValueError, KeyError, TypeError):
            return None

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._transport.aclose()


def is_refused_connection(exc: BaseException) -> bool:
    """Whether nothing was sent because the connection failed at once, so that a retry is safe."""
    return isinstance(exc.__cause__, httpx.ConnectError)


def error_for(status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The error for an answer that is not 200; runtimes repeat the input, so none of their text."""
    detail = _detail(body)
    if status == 400 and isinstance(detail, dict) and detail.get("code") == "MODEL_UNSUPPORTED":
        return ModelNotInstalledError("the runtime cannot run this model")
    if status == 503 and str(detail).startswith("circuit breaker is open"):
        wait_s = max(CIRCUIT_WAIT_S, _retry_after_s(headers))
        return RuntimeCircuitOpenError("the runtime's own breaker is open", wait_s)
    if status == 429:
        return RuntimeOverloadedError("the runtime limits the rate", _retry_after_s(headers))
    if status in _ERRORS:
        error, note = _ERRORS[status]
        return error(note)
    return RuntimeFailedError(f"the runtime answered {status}")


def blamed(body: bytes, count: int) -> frozenset[int] | None:
    """The positions of the series that a 400 to ``count`` series names, or None for none.

    Schema errors carry the path of each fault (``["body", "series", 3, "target", 0]``); one outside
    of ``series`` concerns all, and splitting would not help. Later checks (of a frequency, or by a
    model) name no series.
    """
    detail = _detail(body)
    faults = detail if isinstance(detail, list) else []
    found = (fault.get("loc") for fault in faults if isinstance(fault, dict))
    paths = [path for path in found if isinstance(path, list)]
    if any(len(path) > 1 and path[1] != "series" for path in paths):
        return frozenset(range(count))
    positions = [path[2] for path in paths if len(path) > 2]
    if not positions or not all(type(p) is int and 0 <= p < count for p in positions):
        return None
    return frozenset(positions)


def _detail(body: bytes) -> Any:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer.get("detail") if isinstance(answer, dict) else None


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds from Retry-After, else 0; tollama sends no dates."""
    value = headers.get("retry-after", "").strip()
    return float(value) if re.fullmatch(r"[0-9]{1,9}", value) else 0.0


def _transport(settings: TollamaSection) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(
        limits=httpx.Limits(
            max_connections=settings.max_connections,
            max_keepalive_connections=settings.max_keepalive_connections,
            keepalive_expiry=_KEEPALIVE_S,
        ),
        trust_env=False,
    )


async def _read(response: httpx.Response, limit: int) -> Answer:
    """The answer, or the error that its status, type or size means."""
    if response.status_code != 200:
        try:
            body = await _bounded(response, limit)
        except BadOutputError:
            body = b""
        error = error_for(response.status_code, response.headers, body)
        if isinstance(error, RuntimeRejectedError):
            return Answer(400, body)
        raise error
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != "application/json":
        raise BadOutputError("the answer is not JSON")
    body = await _bounded(response, limit)
    return Answer(200, body, response.extensions.get("network_stream"))


async def _bounded(response: httpx.Response, limit: int) -> bytes:
    """The body; endless answers are stopped, and compressed ones could expand to gigabytes."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadOutputError("the answer is compressed, though we asked for plain bytes")
    chunks: list[bytes] = []
    size = 0
    if int(response.headers.get("content-length", 0)) > limit:  # h11 refuses what is no number
        raise BadOutputError(f"the answer is over {limit} bytes")
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > limit:
            raise BadOutputError(f"the answer is over {limit} bytes")
        if len(chunks) > _FREE_PIECES + size // _USUAL_PIECE:
            raise BadOutputError("the answer comes in very small pieces")
        chunks.append(chunk)
    return b"".join(chunks)


def _headers(settings: TollamaSection) -> dict[str, str]:
    headers = {
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "tsfm-runner",
    }
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        if not (key.isascii() and key.isprintable() and key.strip() == key != ""):
            raise ConfigError("TSFM_TOLLAMA__API_KEY: must be printable ASCII without outer spaces")
        headers["authorization"] = f"Bearer {key}"
    return headers
