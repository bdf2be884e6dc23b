"""What an ingress replica knows when it answers: kept answers, and what was heard of the breakers.

Every `Forecast` is made here, so that its metadata tells the truth in one place.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from runner.answer_cache import AnswerCache, Entry
from runner.bands import Correction
from runner.calibration.calibrator import UNCALIBRATED, Calibrator
from runner.calibration.conformal import Adjusted
from runner.calibration.state import ConformalState
from runner.config.loading import Config
from runner.forecast.outbox import Outbox
from runner.forecast.resolved_request import InputWarning, ResolvedRequest
from runner.types import (
    BASELINE_MODEL,
    Bands,
    BreakerState,
    FallbackReason,
    ModelAnswer,
    ModelFailure,
    Source,
)

ModelOutcome = ModelAnswer | ModelFailure

IN_PROCESS = "baseline_in_process"  # warning: the baseline service did not answer in time
WARNINGS = (  # every warning that an answer can carry; documented in docs/api.md
    *(f"fallback_{reason}" for reason in FallbackReason),
    IN_PROCESS,
    *(notice.value for notice in InputWarning),
    *(correction.value for correction in Correction),
    UNCALIBRATED,
)


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """What a caller gets: bands, and the truth about where they come from.

    Attributes:
        model: the call behind the bands, also when they were cached; None for the baseline.
        cache_age_s: how old a cached answer is; None when it did not come from a cache.
        kept: the fresh cache entry that an equal request will get.
        conformal_asked: whether calibrated paths are wanted beside the raw ones.
        conformal: those paths ``(1, H, Q)``; None too where they are wanted and cannot be had.
    """

    plan: ResolvedRequest
    bands: Bands
    source: Source
    breaker_state: BreakerState
    warnings: tuple[str, ...]
    fallback_reason: FallbackReason | None = None
    model: ModelAnswer | None = None
    cache_stale: bool = False
    cache_age_s: float | None = None
    kept: Entry[ModelAnswer] | None = None
    conformal_asked: bool = False
    conformal: Adjusted | None = None


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was last heard of a model's breaker; ``until`` it is known to be open."""

    state: BreakerState = BreakerState.CLOSED
    until: float = 0.0


class AnswerStore:
    """Kept answers and breaker news of one replica; ``clock`` is monotonic, in seconds.

    With ``notes`` every answer that is not a kept one is noted there, to be learned from.
    """

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float],
        spread: Callable[[], float],
        conformal: ConformalState | None = None,
        notes: Outbox | None = None,
    ) -> None:
        self._calibration = Calibrator(config.conformal, conformal)
        self._notes = notes
        self._memory_s = config.circuit_breaker.ingress_memory_s
        self._clock = clock
        self._cache: AnswerCache[ModelAnswer] = AnswerCache(config.cache, spread)
        self._heard: dict[str, _Heard] = {}

    @property
    def kept_answers(self) -> int:
        """Entries in the cache, fresh or not."""
        return len(self._cache)

    def breaker_states(self) -> dict[str, BreakerState]:
        """The states of all breakers heard of here, by runtime name."""
        return {model: heard.state for model, heard in self._heard.items()}

    def breaker_state(self, model: str) -> BreakerState:
        """The state of a model's breaker as last heard of here."""
        return self._heard.get(model, _Heard()).state

    def learn(self, plan: ResolvedRequest, outcome: ModelOutcome) -> None:
        """Keeps an answer; remembers an open breaker for a moment, so that it costs no hop."""
        now, model = self._clock(), plan.key.model
        if isinstance(outcome, ModelAnswer):
            self._cache.put(plan.cache_key, outcome, now - (outcome.age_s or 0.0))
            self._heard[model] = _Heard(outcome.breaker_state)
        else:
            known_open_s = min(outcome.retry_in_s, self._memory_s)
            self._heard[model] = _Heard(outcome.breaker_state, now + known_open_s)

    def told(self, model: str, state: BreakerState) -> None:
        """Takes an operator's word for the state of a breaker; what was heard is forgotten."""
        self._heard[model] = _Heard(state)

    def known_open(self, plan: ResolvedRequest) -> ModelFailure | None:
        """The failure that asking the model now is known to end in, if any."""
        heard, now = self._heard.get(plan.key.model, _Heard()), self._clock()
        if now >= heard.until:
            return None
        return ModelFailure(FallbackReason.BREAKER_OPEN, heard.state, heard.until - now)

    def calibrate_by(self, state: ConformalState) -> None:
        """Answers are calibrated by this state from now on."""
        self._calibration = replace(self._calibration, state=state)

    def from_model(self, plan: ResolvedRequest, answer: ModelAnswer) -> Forecast:
        """The forecast of an answer that just came."""
        self._note(plan, plan.key.model, answer.bands)
        return self._of_model(plan, answer)

    def _of_model(self, plan: ResolvedRequest, answer: ModelAnswer) -> Forecast:
        forecast = Forecast(
            plan=plan,
            bands=answer.bands,
            source=Source.MODEL,
            breaker_state=answer.breaker_state,
            warnings=(*plan.warnings, *answer.bands.corrections),
            model=answer,
            cache_age_s=answer.age_s,
            kept=self._cache.fresh(plan.cache_key, self._clock()),
        )
        return self._calibrated(forecast, plan.key.model)

    def fresh(self, plan: ResolvedRequest) -> Forecast | None:
        """The forecast of a kept answer that is still good."""
        entry = self._cache.fresh(plan.cache_key, self._clock())
        return None if entry is None else self._from_entry(plan, entry)

    def stale(self, plan: ResolvedRequest, reason: FallbackReason) -> Forecast | None:
        """The forecast of an expired answer that may stand in for a model that failed."""
        entry = self._cache.stale(plan.cache_key, self._clock())
        if entry is None:
            return None
        kept = self._from_entry(plan, entry)
        return replace(
            kept,
            cache_stale=True,
            fallback_reason=FallbackReason.STALE_IF_ERROR,
            warnings=(*kept.warnings, f"fallback_{reason}"),
        )

    def from_baseline(
        self, plan: ResolvedRequest, bands: Bands, reason: FallbackReason, *, in_process: bool
    ) -> Forecast:
        """The forecast of baseline bands, with why and where they were made."""
        self._note(plan, BASELINE_MODEL, bands)
        where = (IN_PROCESS,) if in_process else ()
        forecast = Forecast(
            plan=plan,
            bands=bands,
            source=Source.BASELINE,
            breaker_state=self.breaker_state(plan.key.model),
            warnings=(*plan.warnings, f"fallback_{reason}", *where, *bands.corrections),
            fallback_reason=reason,
        )
        return self._calibrated(forecast, BASELINE_MODEL)

    def _note(self, plan: ResolvedRequest, source: str, bands: Bands) -> None:
        if self._notes is not None:
            self._notes.add(plan, source, bands)

    def _calibrated(self, forecast: Forecast, source: str) -> Forecast:
        """The forecast with calibrated paths beside its own, if its caller wants them."""
        request = forecast.plan.request
        if not self._calibration.asked(request):
            return forecast
        adjusted = self._calibration.of(request, source, forecast.bands)
        missing = (UNCALIBRATED,) if adjusted is None else ()
        warnings = (*forecast.warnings, *missing)
        return replace(forecast, conformal_asked=True, conformal=adjusted, warnings=warnings)

    def _from_entry(self, plan: ResolvedRequest, entry: Entry[ModelAnswer]) -> Forecast:
        return replace(
            self._of_model(plan, entry.value),
            breaker_state=self.breaker_state(plan.key.model),
            cache_age_s=self._clock() - entry.stored_at,
        )
