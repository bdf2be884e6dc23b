"""The exception tree, by the party that must act.

    TsfmError
    |-- RequestError            the caller: fix the request, wait, or use another token
    |-- ModelError              the runtime: each leaf has its own fallback reason
    |-- BreakerOpenError, QueueFullError, BaselineUnavailableError, TooLateError    none: wait
    `-- ConfigError             the operator, at start-up

Exceptions cross processes, so every constructor argument goes positionally to ``super().__init__``,
and the text is built in ``__str__``.
"""

from typing import ClassVar

from runner.types import FallbackReason


class TsfmError(Exception):
    """Root of all errors of this project; ``text`` is a format of the constructor's arguments."""

    text: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.text.format(*self.args)


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

    text = "The body is not valid JSON."


class BodyTooLargeError(RequestError):
    """The body is over the limit."""

    text = "The body is over the limit of {} bytes; send less."


class BodyTimeoutError(RequestError):
    """The body did not arrive in time."""

    text = "The body did not arrive within {:g} s; send it without pauses."


class BatchTooLongError(RequestError):
    """More requests or outcomes in one body than are allowed."""

    text = "A body holds at most {} items; send them in parts."


class OverloadedError(RequestError):
    """Too many requests are in flight; the caller should repeat after ``retry_after_s``."""

    text = "Too many requests are under way; come back after the time in Retry-After."

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s


class BreakerUnreachableError(RequestError):
    """The shared breaker did not confirm an operator's command; it can be sent again."""

    retry_after_s: ClassVar[float] = 1.0
    text = "The breaker cannot be reached now and may be unchanged; send the command again."


class OutcomesUnavailableError(OverloadedError):
    """The learning actor cannot be reached; the caller should repeat after ``retry_after_s``."""

    text = "Outcomes cannot be taken at the moment; send them again after Retry-After."


class BoardUnavailableError(OverloadedError):
    """The actor that keeps the boards cannot be reached; the next cycle sends another board."""

    text = "The board cannot be kept at the moment; send it again after Retry-After."


class UnauthorizedError(RequestError):
    """The request had no token (``presented`` is False) or an unknown one."""

    def __init__(self, presented: bool) -> None:
        super().__init__(presented)
        self.presented = presented

    def __str__(self) -> str:
        if self.presented:
            return "The token is not known; send Authorization: Bearer and a whole token."
        return "A token is needed; send it as Authorization: Bearer <token>."


class InsufficientScopeError(RequestError):
    """The token is known but has none of ``scopes``, of which one is needed."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(scopes)
        self.scopes = scopes

    def __str__(self) -> str:
        return f"The token lacks the scope {' or '.join(self.scopes)}."


class RateLimitedError(RequestError):
    """The token's rate limit is used up; the caller should repeat after ``retry_after_s``."""

    text = "This token has used up its allowance; try again in {:.1f} s."

    def __init__(self, retry_after_s: float, burst_steps: int, refill_steps_per_s: float) -> None:
        super().__init__(retry_after_s, burst_steps, refill_steps_per_s)
        self.retry_after_s = retry_after_s
        self.burst_steps = burst_steps
        self.refill_steps_per_s = refill_steps_per_s


class UnknownModelError(RequestError):
    """No model of that name or alias is registered; ``nearest`` is a similar name that is."""

    def __init__(self, nearest: str | None = None) -> None:
        super().__init__(nearest)
        self.nearest = nearest

    def __str__(self) -> str:
        hint = f" Did you mean {self.nearest}?" if self.nearest else ""
        return f"No such model; GET /tsfm/models lists the names.{hint}"


class ModelNotAllowedError(RequestError):
    """The environment may not serve this model; ``why`` is the registry's reason."""

    text = "Model {} is not allowed in {}: {}"


class ModelError(TsfmError):
    """The runtime gave no usable answer; ``reason`` is in the ``meta`` of the caller's answer.

    The breaker counts it as a failure of the model if ``counts``. ``retry_after_s`` is from the
    runtime's answer, 0.0 where it names none.
    """

    reason: ClassVar[FallbackReason] = FallbackReason.RUNTIME_ERROR
    counts: ClassVar[bool] = True

    def __init__(self, note: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(note, retry_after_s)
        self.note = note
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.note}" if self.note else self.reason.value


class RuntimeTimeoutError(ModelError):
    """The runtime did not answer within the time that was left."""

    reason = FallbackReason.RUNTIME_TIMEOUT


class RuntimeUnreachableError(ModelError):
    """No connection, or it broke before an answer was complete."""

    reason = FallbackReason.RUNTIME_UNREACHABLE


class RuntimeOverloadedError(ModelError):
    """429: the runtime limits the rate of calls."""

    reason = FallbackReason.RUNTIME_OVERLOADED


class RuntimeRejectedError(ModelError):
    """400: the runtime does not accept this series; not a failure of the model."""

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
    """404: the runtime does not have this model, and says so quickly; a breaker would hide that."""

    reason = FallbackReason.MODEL_NOT_INSTALLED
    counts = False


class RuntimeFailedError(ModelError):
    """5xx, or a status the contract does not name."""


class RuntimeCircuitOpenError(ModelError):
    """tollama's own breaker is open for ``retry_after_s``; not a failure of the model."""

    counts = False


class BadOutputError(ModelError):
    """The answer has other levels, another length or other ids, or values that are not finite."""

    reason = FallbackReason.BAD_OUTPUT


class BreakerOpenError(TsfmError):
    """The model's breaker is open for another ``retry_in_s`` seconds."""

    text = "The breaker is open for another {:.1f} s."

    def __init__(self, retry_in_s: float) -> None:
        super().__init__(retry_in_s)
        self.retry_in_s = retry_in_s


class QueueFullError(TsfmError):
    """The queue to the runtime is full."""

    text = "The queue to the runtime is full."


class BaselineUnavailableError(TsfmError):
    """The baseline service did not answer; the baseline is computed in this process instead."""

    text = "The baseline service is not available."


class TooLateError(TsfmError):
    """The deadline cannot be met, or has passed."""

    text = "The deadline cannot be met any more."


class ConfigError(TsfmError):
    """The operator must fix the configuration; ``message`` names the file and the key."""

    text = "{}"
