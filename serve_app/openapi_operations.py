"""What can be asked of the service: each operation with its bodies, its examples, its errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from runner.config import Config
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
from runner.sections import RequestSection
from serve_app import schemas_out as out
from serve_app.admin import (
    BREAKER_PATH,
    MAX_BODY_BYTES,
    NOT_JSON,
    BreakerAction,
    BreakerCommandWire,
)
from serve_app.batch_endpoint import NDJSON
from serve_app.batch_line import RETRY_AFTER_S
from serve_app.errors import describe
from serve_app.openapi_examples import (
    ANSWERS,
    BASELINE_ANSWER,
    FORECAST,
    MODEL_ANSWER,
    OUTCOMES,
    OUTCOMES_ANSWERS,
    REQUESTS,
)
from serve_app.schemas import BatchWire, ForecastWire
from serve_app.schemas_outcomes import OutcomesAnswer, OutcomesWire
from serve_app.schemas_status import MetricsText, StatusAnswer
from serve_app.stages import Stages

Examples = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """What stands under a path: one method each.

    ``errors`` are its own; the gate's and our own faults are the same for all.
    """

    method: str
    summary: str
    answer: type[BaseModel]
    description: str = ""
    examples: Examples = field(default_factory=dict)
    request: type[BaseModel] | None = None
    request_examples: Examples = field(default_factory=dict)
    parameters: Sequence[Mapping[str, Any]] = ()  # in the path
    lines: tuple[type[BaseModel], ...] = ()  # of an NDJSON answer
    line_examples: Examples = field(default_factory=dict)
    errors: Sequence[RequestError | ValidationError] = ()
    media_type: str = "application/json"
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the answer

    @property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The wire models of all its bodies."""
        return (self.answer, *self.lines, *([self.request] if self.request else []))


def operations_of(config: Config) -> Mapping[str, Operation]:
    """Every operation of a service with this configuration, by path."""
    limits, retry_after_s = config.request, config.overload.retry_after_s
    security = config.security
    spent = RateLimitedError(1.0, security.burst_steps, security.refill_steps_per_s)
    not_allowed = ModelNotAllowedError(
        "moirai-2.0-R-small", "prod", "its licence (CC-BY-NC-4.0) is tagged research_only"
    )
    return {
        "/tsfm/forecast": Operation(
            "post",
            "Forecast one market",
            out.ForecastAnswer,
            _forecast_description(limits),
            ANSWERS,
            ForecastWire,
            REQUESTS,
            headers={"Server-Timing": _SERVER_TIMING},
            errors=(
                *_body_errors(ForecastWire, limits.max_body_bytes, limits),
                *(UnknownModelError(), not_allowed, OverloadedError(retry_after_s), spent),
            ),
        ),
        "/tsfm/forecast/batch": Operation(
            "post",
            "Forecast a whole cycle",
            out.BatchAnswer,
            _batch_description(limits),
            {"results": {"value": {"results": [{"ok": MODEL_ANSWER}, _REFUSED_ITEM]}}},
            BatchWire,
            {"two": {"value": {"requests": [FORECAST, REQUESTS["short"]["value"]]}}},
            lines=(out.LineOk, out.LineError),
            line_examples={"line": {"value": {"index": 0, "ok": BASELINE_ANSWER}}},
            errors=(
                *_body_errors(BatchWire, limits.max_batch_body_bytes, limits),
                *(BatchTooLongError(limits.max_batch_requests), OverloadedError(RETRY_AFTER_S)),
                spent,
            ),
        ),
        "/tsfm/outcomes": Operation(
            "post",
            "Say what came of forecasts",
            OutcomesAnswer,
            _OUTCOMES_DESCRIPTION,
            OUTCOMES_ANSWERS,
            OutcomesWire,
            OUTCOMES,
            errors=(
                *_body_errors(OutcomesWire, limits.max_body_bytes, limits, _WRONG_OUTCOME),
                *(BatchTooLongError(config.conformal.max_outcomes), spent),
                OutcomesUnavailableError(max(1.0, config.conformal.exchange_interval_s)),
            ),
        ),
        "/tsfm/models": Operation("get", "Models this environment serves", out.ModelsAnswer),
        "/tsfm/status": Operation("get", "What the service is doing", StatusAnswer),
        BREAKER_PATH: Operation(
            "post",
            "Force a breaker open or closed, or reset it",
            out.BreakerAnswer,
            "What is forced stays forced until the next command. All replicas know within 1 s.",
            {"forced": {"value": {"model": "mock", "state": "forced_open"}}},
            BreakerCommandWire,
            {action.value: {"value": {"action": action.value}} for action in BreakerAction},
            parameters=(_MODEL_IN_PATH,),
            errors=(
                *(
                    _not_json(BreakerCommandWire),
                    InvalidRequestError(*NOT_JSON),
                    BodyTooLargeError(MAX_BODY_BYTES),
                ),
                *(BodyTimeoutError(limits.body_timeout_s), UnknownModelError(), not_allowed),
                BreakerUnreachableError(),
            ),
        ),
        "/metrics": Operation(
            "get",
            "Numbers of all replicas, for Prometheus",
            MetricsText,
            media_type="text/plain",
        ),
        "/healthz": Operation("get", "Whether the process answers", out.LiveAnswer),
        "/readyz": Operation("get", "Whether forecasts can be answered", out.ReadyAnswer),
        "/openapi.json": Operation("get", "This document", out.Document),
    }


_MODEL_IN_PATH = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Alias or runtime name; see /tsfm/models.",
    "schema": {"type": "string", "minLength": 1},
}
_WRONG_VALUE = InvalidRequestError("y.3", "Probabilities lie between 0 and 1.")
_WRONG_OUTCOME = InvalidRequestError("outcomes.3.value", "Input should be less than or equal to 1")
_OUTCOMES_DESCRIPTION = (
    "For callers whose requests do not carry the values that earlier ones forecast: those need "
    "nothing. A list is taken whole or not at all; to send it again does no harm."
)
_REFUSED_ITEM = {"error": describe(_WRONG_VALUE).as_object()}


_SERVER_TIMING = {
    "description": "Where the time went, in ms.",
    "schema": {"type": "string"},
    "example": Stages(0.4, 1.2, 80.0, 0.2, 83.1).header().decode(),
}


def _forecast_description(limits: RequestSection) -> str:
    return (
        f"A valid band leaves within {limits.deadline_ms:g} ms. The newest "
        f"{limits.input_len_steps} steps of `y` are used."
    )


def _batch_description(limits: RequestSection) -> str:
    return (
        f"Up to {limits.max_batch_requests} requests, answered within "
        f"{limits.batch_deadline_ms:g} ms; they have no `deadline_ms` of their own. A bad request "
        f"is an error for itself alone. With `Accept: {NDJSON}` each result is a line, sent when "
        "it is there."
    )


def _body_errors(
    model: type[BaseModel],
    limit_bytes: int,
    limits: RequestSection,
    wrong: InvalidRequestError = _WRONG_VALUE,
) -> tuple[RequestError | ValidationError, ...]:
    return (
        _not_json(model),
        wrong,
        BodyTooLargeError(limit_bytes),
        BodyTimeoutError(limits.body_timeout_s),
    )


def _not_json(model: type[BaseModel]) -> ValidationError:
    try:
        model.model_validate_json(b"{")
    except ValidationError as refused:
        return refused
    raise AssertionError("half an object was taken for a whole one")
