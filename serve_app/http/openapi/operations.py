"""The operations of the API: a table with their bodies and their errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.config.loading import Config
from runner.errors import (
    BatchTooLongError,
    BodyTimeoutError,
    BodyTooLargeError,
    BreakerUnreachableError,
    InvalidRequestError,
    ModelNotAllowedError,
    OutcomesUnavailableError,
    OverloadedError,
    RateLimitedError,
    RequestError,
    UnknownModelError,
)
from serve_app.http import responses as out
from serve_app.http.batch_admission import RETRY_AFTER_S
from serve_app.http.batch_endpoint import NDJSON
from serve_app.http.breaker_endpoint import (
    BREAKER_PATH,
    MAX_BODY_BYTES,
    NOT_JSON,
    BreakerCommandBody,
)
from serve_app.http.outcomes_endpoint import OutcomesAnswer, OutcomesBody
from serve_app.http.requests import BatchBody, ForecastBody
from serve_app.http.status_endpoint import MetricsText, StatusAnswer
from serve_app.telemetry.request_metrics import Timings

Refusal = RequestError | ValidationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The one method of a path. ``errors`` are its own; errors of all operations are added."""

    method: str = "get"
    summary: str
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()  # in the path
    request: type[BaseModel] | None = None
    answer: type[BaseModel]
    media_type: str = "application/json"
    lines: Sequence[type[BaseModel]] = ()  # the models of a line of an NDJSON answer
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the answer
    errors: Sequence[Refusal] = ()


def operations_of(config: Config) -> Mapping[str, Operation]:
    """Every operation of a service with this configuration, by path."""
    return {
        "/tsfm/forecast": _forecast(config),
        "/tsfm/forecast/batch": _batch(config),
        "/tsfm/outcomes": _outcomes(config),
        "/tsfm/models": Operation(
            summary="Models this environment serves", answer=out.ModelsAnswer
        ),
        "/tsfm/status": Operation(summary="What the service is doing", answer=StatusAnswer),
        BREAKER_PATH: _breaker(config),
        "/metrics": Operation(
            summary="Numbers of all replicas, for Prometheus",
            answer=MetricsText,
            media_type="text/plain",
        ),
        "/healthz": Operation(summary="Whether the process answers", answer=out.LiveAnswer),
        "/readyz": Operation(summary="Whether forecasts can be answered", answer=out.ReadyAnswer),
        "/openapi.json": Operation(summary="This document", answer=out.Document),
    }


def _forecast(config: Config) -> Operation:
    limits = config.request
    return Operation(
        method="post",
        summary="Forecast one market",
        description=f"A valid band leaves within {limits.deadline_ms:g} ms. The newest "
        f"{limits.input_len_steps} steps of `y` are used.",
        request=ForecastBody,
        answer=out.ForecastAnswer,
        headers={"Server-Timing": _SERVER_TIMING},
        errors=(
            *_body_errors(config, limits.max_body_bytes, _WRONG_VALUE),
            *(UnknownModelError(), _NOT_ALLOWED),
            *(OverloadedError(config.overload.retry_after_s), _spent(config)),
        ),
    )


def _batch(config: Config) -> Operation:
    limits = config.request
    return Operation(
        method="post",
        summary="Forecast a whole cycle",
        description=f"Up to {limits.max_batch_requests} requests, answered within "
        f"{limits.batch_deadline_ms:g} ms; they have no `deadline_ms` of their own. A bad request "
        f"is an error for itself alone. With `Accept: {NDJSON}` each result is a line, sent when "
        "it is there.",
        request=BatchBody,
        answer=out.BatchAnswer,
        lines=(out.LineOk, out.LineError),
        errors=(
            *_body_errors(config, limits.max_batch_body_bytes, _WRONG_VALUE),
            *(BatchTooLongError(limits.max_batch_requests), OverloadedError(RETRY_AFTER_S)),
            _spent(config),
        ),
    )


def _outcomes(config: Config) -> Operation:
    learning = config.conformal
    return Operation(
        method="post",
        summary="Say what came of forecasts",
        description="For callers whose requests do not carry the values that earlier ones "
        "forecast: those need nothing. A list is taken whole or not at all; to send it again does "
        "no harm.",
        request=OutcomesBody,
        answer=OutcomesAnswer,
        errors=(
            *_body_errors(config, config.request.max_body_bytes, _WRONG_OUTCOME),
            *(BatchTooLongError(learning.max_outcomes), _spent(config)),
            OutcomesUnavailableError(max(1.0, learning.exchange_interval_s)),
        ),
    )


def _breaker(config: Config) -> Operation:
    return Operation(
        method="post",
        summary="Force a breaker open or closed, or reset it",
        description="What is forced stays forced until the next command. All replicas know "
        "within 1 s.",
        parameters=(_MODEL_IN_PATH,),
        request=BreakerCommandBody,
        answer=out.BreakerAnswer,
        errors=(
            *_body_errors(config, MAX_BODY_BYTES, InvalidRequestError(*NOT_JSON)),
            *(UnknownModelError(), _NOT_ALLOWED, BreakerUnreachableError()),
        ),
    )


def _body_errors(
    config: Config, max_body_bytes: int, wrong: InvalidRequestError
) -> Sequence[Refusal]:
    too_late = BodyTimeoutError(config.request.body_timeout_s)
    return _NOT_JSON, wrong, BodyTooLargeError(max_body_bytes), too_late


def _spent(config: Config) -> RateLimitedError:
    security = config.security
    return RateLimitedError(1.0, security.burst_steps, security.refill_steps_per_s)


def _refused_as_json() -> ValidationError:
    try:
        BreakerCommandBody.model_validate_json(b"{")
    except ValidationError as refused:
        return refused
    raise AssertionError("half an object was taken for a whole one")


_MODEL_IN_PATH = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Alias or runtime name; see /tsfm/models.",
    "schema": {"type": "string", "minLength": 1},
}
_SERVER_TIMING = {
    "description": "Where the time went, in ms.",
    "schema": {"type": "string"},
    "example": Timings(0.4, 1.2, 80.0, 0.2, 83.1).header().decode(),
}
_NOT_JSON = _refused_as_json()  # the same for every body model
_WRONG_VALUE = InvalidRequestError("y.3", "Probabilities lie between 0 and 1.")
_WRONG_OUTCOME = InvalidRequestError("outcomes.3.value", "Input should be less than or equal to 1")
_NOT_ALLOWED = ModelNotAllowedError(
    "moirai-2.0-R-small", "prod", "its licence (CC-BY-NC-4.0) is tagged research_only"
)
