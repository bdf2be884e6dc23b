"""What both clients share: addresses, headers, time limits, and how an answer is read."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, Unpack

import httpx
import orjson

from serve_app.client.answers import Forecast
from serve_app.client.body import Options, request_body
from serve_app.client.errors import ServiceError, UnreachableError, service_error

DEFAULT_URL = "http://127.0.0.1:8000"
MAX_BATCH_REQUESTS = 500  # a service takes 2,000; shorter parts show results sooner
MAX_BATCH_BYTES = 8_000_000
NDJSON = "application/x-ndjson"
_MARGIN_S = 1.0  # over the deadline: the way there and back

BreakerAction = Literal["force_open", "force_closed", "reset"]
Bodies = Iterable[Mapping[str, Any]] | Mapping[str, Any]
Numbered = dict[int, bytes]  # requests that have no answer yet, by their number
Item = tuple[int, Forecast | ServiceError]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the service is, who calls, and how long a call may take."""

    url: str
    token: str | None
    timeout_s: float

    @classmethod
    def of(cls, url: str | None, token: str | None, timeout_s: float) -> "Connection":
        """With TSFM_URL and TSFM_TOKEN for what is not given."""
        url = url or os.environ.get("TSFM_URL") or DEFAULT_URL
        if httpx.URL(url).scheme not in ("http", "https") or not httpx.URL(url).host:
            raise ValueError(f"{url!r} is no address; write it like {DEFAULT_URL}")
        return cls(url.rstrip("/"), token or os.environ.get("TSFM_TOKEN") or None, timeout_s)

    def settings(self) -> dict[str, Any]:
        """Of the httpx client. A proxy from the environment is not asked for this machine."""
        headers = {"user-agent": "tsfm-client", "content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        return {"base_url": self.url, "headers": headers, "trust_env": not _is_here(self.url)}

    def limits(self, deadline_ms: float | None, elapsed_s: float) -> dict[str, Any]:
        """Headers and timeout of one attempt: what is left of the caller's deadline."""
        if deadline_ms is None:
            return {"timeout": self.timeout_s}
        left_ms = max(1.0, deadline_ms - elapsed_s * 1e3)
        headers = {"x-request-deadline-ms": f"{left_ms:.0f}"}
        return {"timeout": left_ms / 1e3 + _MARGIN_S, "headers": headers}

    def lost(self, error: httpx.HTTPError) -> UnreachableError:
        """The failure of an attempt, in words."""
        if isinstance(error, httpx.TimeoutException):
            return UnreachableError(self.url, "no answer in time")
        if isinstance(error, httpx.ConnectError):
            return UnreachableError(self.url, "nothing listens there, or the name is unknown")
        return UnreachableError(self.url, "the connection broke")

    def read(self, status: int, headers: Mapping[str, str], content: bytes) -> Any:
        """The JSON of an answer.

        Raises:
            ServiceError: it is an error of the service.
            UnreachableError: it is not of the service at all, like a proxy's page.
        """
        try:
            value = orjson.loads(content)
            if status == 200:
                return value
            raise service_error(status, value["error"], _seconds(headers.get("retry-after")))
        except (ValueError, LookupError, TypeError) as exc:
            why = f"something that is not this service answered with status {status}"
            raise UnreachableError(self.url, why) from exc

    def item_of(self, line: str, numbers: list[int]) -> Item:
        """A line of a batch's answer, with the number of its request.

        Raises:
            UnreachableError: it was cut, or is not of the service.
        """
        try:
            value = orjson.loads(line)
            number = numbers[value["index"]]
            if "error" in value:
                return number, service_error(0, value["error"])
            return number, Forecast.from_wire(value["ok"])
        except (ValueError, LookupError, TypeError) as exc:
            raise UnreachableError(self.url, "the answer was cut short") from exc


def bodies_of(series: Bodies, options: Options) -> list[bytes]:
    """Requests as bytes: of JSON objects, or of market ids with values, as in a DataFrame."""
    return [orjson.dumps(body) for body in _bodies(series, **options)]


def _bodies(series: Any, **options: Unpack[Options]) -> Iterator[Mapping[str, Any]]:
    if hasattr(series, "items"):
        for market_id, y in series.items():
            yield request_body(str(market_id), y, **options)
    else:
        yield from series


def parts(bodies: list[bytes]) -> Iterator[Numbered]:
    """The requests in as many batches as the service's limits want, in order."""
    part: Numbered = {}
    size = 0
    for number, body in enumerate(bodies):
        if part and (len(part) == MAX_BATCH_REQUESTS or size + len(body) > MAX_BATCH_BYTES):
            yield part
            part, size = {}, 0
        part[number] = body
        size += len(body)
    if part:
        yield part


def batch_body(waiting: Numbered) -> bytes:
    """The body of a batch."""
    return b'{"requests":[%b]}' % b",".join(waiting.values())


def _seconds(retry_after: str | None) -> float | None:
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:  # a date, as other servers send
        return None


def _is_here(url: str) -> bool:
    host = httpx.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
