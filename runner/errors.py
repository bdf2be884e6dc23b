"""The exception tree, by who must act.

    TsfmError
    |-- RequestError            the caller: fix the request
    |   |-- InvalidRequestError     a field is wrong; carries the path
    |   |-- InvalidJsonError
    |   |-- BodyTooLargeError, BodyTimeoutError, BatchTooLongError
    |   |-- OverloadedError         come back later
    |   |-- BreakerUnreachableError   likewise: an operator's word could not be passed on
    |   |   `-- OutcomesUnavailableError
    |   |-- UnauthorizedError         no token, or not a known one
    |   |-- InsufficientScopeError    a token for something else
    |   |-- RateLimitedError          wait
    |   |-- UnknownModelError
    |   `-- ModelNotAllowedError    this environment may not serve it
    |-- ModelError              the runtime: each leaf has its own fallback reason
    |   |-- RuntimeTimeoutError
    |   |-- RuntimeUnreachableError
    |   |-- RuntimeOverloadedError  429
    |   |-- RuntimeRejectedError    400, this series alone
    |   |-- RuntimeTooLargeError    413
    |   |-- RuntimeUnauthorizedError 401, 403
    |   |-- ModelNotInstalledError  404
    |   |-- RuntimeFailedError      5xx and anything else
    |   |-- RuntimeCircuitOpenError tollama's own breaker: says nothing about the model
    |   `-- BadOutputError          an answer we cannot use
    |-- BreakerOpenError        nobody: wait
    |-- QueueFullError          nobody: too much at once
    |-- BaselineUnavailableError nobody: the baseline is computed in place
    |-- TooLateError            nobody: the deadline cannot be met any more
    `-- ConfigError             the operator, at start-up

Exceptions cross processes, so every constructor argument goes positionally to ``super().__init__``
and the text is built in ``__str__``.
"""

from typing import ClassVar

from runner.types import FallbackReason


class TsfmError(Exception):
    """Root of every error this project raises on purpose."""


class RequestError(TsfmError):
    """The caller must change the request."""


class InvalidRequestError(RequestError):
    """A field is wrong; ``path`` names it in dotted form, ``message`` says what to do."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidJsonError(RequestError):
    """The body is not JSON."""

    def __str__(self) -> str:
        return "The body is not valid JSON."


class BodyTooLargeError(RequestError):
    """The body passed the limit while it was read."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"The body is over the limit of {self.limit_bytes} bytes; send less."


class BodyTimeoutError(RequestError):
    """The body did not arrive in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"The body did not arrive within {self.limit_s:g} s; send it without pauses."


class BatchTooLongError(RequestError):
    """More requests or outcomes in one body than are taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"A body holds at most {self.limit} items; send them in parts."


class OverloadedError(RequestError):
    """Too much is under way; the caller should come back after ``retry_after_s``."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return "Too many requests are under way; come back after the time in Retry-After."


class BreakerUnreachableError(RequestError):
    """The shared breaker did not take an operator's command; it can be given again."""

    retry_after_s: ClassVar[float] = 1.0

    def __str__(self) -> str:
        return "The breaker cannot be reached now and may be unchanged; send the command again."


class OutcomesUnavailableError(OverloadedError):
    """What learns from outcomes cannot be reached; come back after ``retry_after_s``."""

    def __str__(self) -> str:
        return "Outcomes cannot be taken at the moment; send them again after Retry-After."


class UnauthorizedError(RequestError):
    """The caller showed no token (``presented`` is False) or none that is known."""

    def __init__(self, presented: bool) -> None:
        super().__init__(presented)
        self.presented = presented

    def __str__(self) -> str:
        if self.presented:
            return "The token is not known; send Authorization: Bearer and a whole token."
        return "A token is needed; send it as Authorization: Bearer <token>."


class InsufficientScopeError(RequestError):
    """The token is known and not good for this; any one of ``scopes`` would be."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(scopes)
        self.scopes = scopes

    def __str__(self) -> str:
        return f"The token lacks the scope {' or '.join(self.scopes)}."


class RateLimitedError(RequestError):
    """The caller has used up its allowance, of which some is back in ``retry_after_s``."""

    def __init__(self, retry_after_s: float, burst_steps: int, refill_steps_per_s: float) -> None:
        super().__init__(retry_after_s, burst_steps, refill_steps_per_s)
        self.retry_after_s = retry_after_s
        self.burst_steps = burst_steps
        self.refill_steps_per_s = refill_steps_per_s

    def __str__(self) -> str:
        return f"This token has used up its allowance; try again in {self.retry_after_s:.1f} s."


class UnknownModelError(RequestError):
    """No model of that name or alias is registered."""

    def __str__(self) -> str:
        return "No such model; GET /tsfm/models lists the names."


class ModelNotAllowedError(RequestError):
    """The environment may not serve this model; ``why`` is the registry's reason."""

    def __init__(self, model: str, environment: str, why: str) -> None:
        super().__init__(model, environment, why)
        self.model = model
        self.environment = environment
        self.why = why

    def __str__(self) -> str:
        return f"Model {self.model} is not allowed in {self.environment}: {self.why}"


class ModelError(TsfmError):
    """The runtime gave no usable answer; ``reason`` is what the caller reads in ``meta``.

    Attributes:
        reason: the fallback reason of this kind of failure.
        counts: whether the breaker counts it as a failure of the model.
    """

    reason: ClassVar[FallbackReason] = FallbackReason.RUNTIME_ERROR
    counts: ClassVar[bool] = True

    def __init__(self, note: str = "") -> None:
        super().__init__(note)
        self.note = note

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.note}" if self.note else self.reason.value


class RuntimeTimeoutError(ModelError):
    """The runtime did not answer within our budget."""

    reason = FallbackReason.RUNTIME_TIMEOUT


class RuntimeUnreachableError(ModelError):
    """No connection, or it broke before an answer was complete."""

    reason = FallbackReason.RUNTIME_UNREACHABLE


class RuntimeOverloadedError(ModelError):
    """429; ``retry_after_s`` is the runtime's own wish, None when it named none."""

    reason = FallbackReason.RUNTIME_OVERLOADED

    def __init__(self, note: str = "", retry_after_s: float | None = None) -> None:
        Exception.__init__(self, note, retry_after_s)
        self.note = note
        self.retry_after_s = retry_after_s


class RuntimeRejectedError(ModelError):
    """400: the runtime does not accept this series; says nothing about the model's health."""

    reason = FallbackReason.RUNTIME_REJECTED
    counts = False


class RuntimeTooLargeError(ModelError):
    """413: the call was too big; smaller ones may pass."""

    reason = FallbackReason.RUNTIME_REJECTED
    counts = False


class RuntimeUnauthorizedError(ModelError):
    """401 or 403: key missing or wrong, or licence not accepted."""

    reason = FallbackReason.RUNTIME_UNAUTHORIZED


class ModelNotInstalledError(ModelError):
    """404: the runtime does not have this model."""

    reason = FallbackReason.MODEL_NOT_INSTALLED


class RuntimeFailedError(ModelError):
    """5xx, or a status the contract does not name."""

    reason = FallbackReason.RUNTIME_ERROR


class RuntimeCircuitOpenError(ModelError):
    """tollama's own breaker is open: no information about the model, wait ``retry_after_s``."""

    reason = FallbackReason.RUNTIME_ERROR
    counts = False

    def __init__(self, note: str = "", retry_after_s: float = 16.0) -> None:
        Exception.__init__(self, note, retry_after_s)
        self.note = note
        self.retry_after_s = retry_after_s


class BadOutputError(ModelError):
    """The answer is not what was asked for: levels, length, ids or finiteness."""

    reason = FallbackReason.BAD_OUTPUT


class BreakerOpenError(TsfmError):
    """The breaker keeps calls away from the model for another ``retry_in_s`` seconds."""

    def __init__(self, retry_in_s: float) -> None:
        super().__init__(retry_in_s)
        self.retry_in_s = retry_in_s

    def __str__(self) -> str:
        return f"The breaker is open for another {self.retry_in_s:.1f} s."


class QueueFullError(TsfmError):
    """The queue to the runtime is at its bound."""

    def __str__(self) -> str:
        return "The queue to the runtime is full."


class BaselineUnavailableError(TsfmError):
    """The baseline service could not answer; the same function runs in this process instead."""

    def __str__(self) -> str:
        return "The baseline service is not available."


class TooLateError(TsfmError):
    """The deadline cannot be met any more, so nothing was sent."""

    def __str__(self) -> str:
        return "The deadline cannot be met any more."


class ConfigError(TsfmError):
    """The operator must fix the configuration; the text names the file and the key."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message
