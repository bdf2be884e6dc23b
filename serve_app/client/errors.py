"""Errors of the client, by who must act; docs/client.md explains how to handle each."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Root of every error that the client raises on purpose."""


class UnreachableError(ClientError):
    """No connection, a broken one, or an answer that is not from the service."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)

    def __str__(self) -> str:
        return "The service at {} cannot be reached: {}.".format(*self.args)


class ServiceError(ClientError):
    """An answer that is an error; for one request of a batch it has no status and no id."""

    def __init__(
        self, status: int, error: Mapping[str, Any], retry_after_s: float | None = None
    ) -> None:
        super().__init__(status, error, retry_after_s)
        self.status, self.retry_after_s = status, retry_after_s
        self.code, self.message = str(error["code"]), str(error["message"])
        self.detail: tuple[Mapping[str, str], ...] = tuple(error.get("detail", ()))
        self.request_id: str = error.get("request_id", "")

    def __str__(self) -> str:
        where = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code}: {self.message}{where}"


class RequestRefusedError(ServiceError):
    """The request is not valid, or not accepted now."""


class ServiceFailedError(ServiceError):
    """The service failed."""


def service_error(
    status: int, error: Mapping[str, Any], retry_after_s: float | None = None
) -> ServiceError:
    """The error of an answer's ``error`` object.

    >>> str(service_error(404, {"code": "unknown_model", "message": "No.", "request_id": "a1"}))
    'unknown_model: No. (request a1)'
    """
    kind = ServiceFailedError if status >= 500 else RequestRefusedError
    return kind(status, error, retry_after_s)
