"""What a call can end in, by who must act.

ClientError
|-- UnreachableError        nothing usable came back: try again later
`-- ServiceError            the service answered with an error
    |-- RequestRefusedError     4xx: change the request, or wait (rate_limited, overloaded)
    `-- ServiceFailedError      5xx: try again; quote the request id if it stays
"""

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Root of every error that the client raises on purpose."""


class UnreachableError(ClientError):
    """No connection, it broke, or whoever answered was not the service."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        return f"The service at {self.url} cannot be reached: {self.why}."


class ServiceError(ClientError):
    """An answer of the service that is an error.

    Attributes:
        status: the HTTP status; 0 for one request of a batch, which has none.
        code: for programs, as docs/api.md lists them.
        detail: the wrong fields, each with ``path`` and ``message``.
        request_id: to quote; empty for one request of a batch.
        retry_after_s: when to come back, where the service said so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        detail: Sequence[Mapping[str, str]] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status, code, message, detail, request_id, retry_after_s)
        self.status = status
        self.code = code
        self.message = message
        self.detail = tuple(detail)
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        where = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.message}{where}"


class RequestRefusedError(ServiceError):
    """The request cannot be served as it is, or not now."""


class ServiceFailedError(ServiceError):
    """The service could not do what it should."""


def service_error(
    status: int, error: Mapping[str, Any], retry_after_s: float | None = None
) -> ServiceError:
    """The error of an answer's ``error`` object.

    >>> str(service_error(404, {"code": "unknown_model", "message": "No.", "request_id": "a1"}))
    'unknown_model: No. (request a1)'
    """
    kind = ServiceFailedError if status >= 500 else RequestRefusedError
    given = (error.get("detail", ()), error.get("request_id", ""), retry_after_s)
    return kind(status, str(error["code"]), str(error["message"]), *given)
