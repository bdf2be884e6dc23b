"""The cached answers and the known breaker states of an ingress replica.

Every `Forecast` is made here, so that its metadata is set in one place.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from runner.answer_cache import AnswerCache, Entry
from runner.bands import Correction, relimited
from runner.calibration.conformal import Adjusted, adjust, interval_of
from runner.calibration.coverage import ForecastRecord, Learned, Rolling, SegmentOf
from runner.calibration.crossing import probability_above
from runner.calibration.miscoverage import CoverageTest
from runner.calibration.routing import RoutedBy, pin_of, routed_by
from runner.calibration.skill import Paired, skill_segment
from runner.calibration.state import ConformalState, segment_chain
from runner.config.loading import Config
from runner.config.sections import Pin, RoutingMode
from runner.forecast.check import Check, judge
from runner.forecast.resolved_request import InputWarning, ResolvedRequest
from runner.tollama.notices import Notice
from runner.types import (
    BASELINE_MODEL,
    Bands,
    BreakerState,
    FallbackReason,
    FloatArray,
    ForecastRequest,
    ModelAnswer,
    ModelFailure,
    Source,
)


class Outbox:
    """Forecasts not yet sent to the learning actor; if it is full, the oldest are dropped."""

    def __init__(self, max_queued: int) -> None:
        self._queue: deque[ForecastRecord] = deque(maxlen=max_queued)
        self._max_queued = max_queued
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, record: ForecastRecord) -> None:
        """Adds a forecast."""
        self.dropped += len(self._queue) == self._max_queued
        self._queue.append(record)

    def take(self, most: int) -> list[ForecastRecord]:
        """Removes and returns the oldest forecasts."""
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def put_back(self, records: Sequence[ForecastRecord]) -> None:
        """Puts forecasts that could not be sent before the others; drops the oldest if full."""
        room = self._max_queued - len(self._queue)
        kept = records[max(0, len(records) - room) :]
        self.dropped += len(records) - len(kept)
        self._queue.extendleft(reversed(kept))


ModelOutcome = ModelAnswer | ModelFailure

BY_EVIDENCE = {
    RoutedBy.COVERAGE: FallbackReason.ROUTED_BY_COVERAGE,
    RoutedBy.SKILL: FallbackReason.ROUTED_BY_SKILL,
    RoutedBy.ALL: FallbackReason.ROUTED_BY_SKILL,
}

IN_PROCESS = "baseline_in_process"  # warning: the baseline service did not answer in time
UNCALIBRATED = "conformal_uncalibrated"  # warning: asked for, but too few outcomes are known
WARNINGS = (  # every warning that an answer can carry; documented in docs/api.md
    *(f"fallback_{reason}" for reason in FallbackReason),
    IN_PROCESS,
    *(warning.value for warning in InputWarning),
    *(notice.value for notice in Notice),
    *(correction.value for correction in Correction),
    UNCALIBRATED,
)


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """An answer: bands, and where they come from."""

    resolved: ResolvedRequest
    bands: Bands
    source: Source
    breaker_state: BreakerState
    warnings: tuple[str, ...]
    fallback_reason: FallbackReason | None = None
    model: ModelAnswer | None = None  # also behind cached bands; None for the baseline
    cache_stale: bool = False
    cache_age_s: float | None = None  # None if it did not come from a cache
    cache_entry: Entry[ModelAnswer] | None = None  # fresh: would answer an equal request
    conformal_asked: bool = False
    conformal: Adjusted | None = None  # paths (1, H, Q); None also if too few outcomes are known
    check: Check | None = None  # of the newest prices, where that was asked for
    above: FloatArray | None = None  # (H, K) probabilities, where thresholds were asked for
    covariates_ignored: tuple[str, ...] = ()  # names of those that the bands do not depend on


@dataclass(frozen=True, slots=True)
class _KnownBreaker:
    """The last known state of a model's breaker; it is known to be open before ``open_until``."""

    state: BreakerState = BreakerState.CLOSED
    open_until: float = 0.0


class AnswerStore:
    """Cached answers and breaker states of one replica; ``clock`` is monotonic, in seconds.

    Every answer that does not come from the cache is added to ``outbox``, if there is one.
    """

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float],
        spread: Callable[[], float],
        conformal: ConformalState | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self._settings = config.conformal
        self._bands = config.bands
        self._conformal = conformal
        self._rolling: Mapping[SegmentOf, Rolling] = {}
        self._skill: Mapping[SegmentOf, Paired] = {}
        self._coverage: Mapping[str, CoverageTest] = {}
        self._routing = config.routing
        self._outbox = outbox
        self._memory_s = config.circuit_breaker.ingress_memory_s
        self._clock = clock
        self._cache: AnswerCache[ModelAnswer] = AnswerCache(config.cache, spread)
        self._breakers: dict[str, _KnownBreaker] = {}

    @property
    def kept_answers(self) -> int:
        """Number of cache entries, fresh or expired."""
        return len(self._cache)

    def breaker_states(self) -> dict[str, BreakerState]:
        """The known breaker states by the model's runtime name."""
        return {model: known.state for model, known in self._breakers.items()}

    def breaker_state(self, model: str) -> BreakerState:
        """The last known state of a model's breaker."""
        return self._breakers.get(model, _KnownBreaker()).state

    def set_breaker_state(self, model: str, state: BreakerState) -> None:
        """Replaces the known state of a breaker after an operator's command."""
        self._breakers[model] = _KnownBreaker(state)

    def record(self, resolved: ResolvedRequest, outcome: ModelOutcome) -> None:
        """Caches an answer; remembers an open breaker, so that the next request makes no call."""
        now, model = self._clock(), resolved.key.model
        open_until = 0.0
        if isinstance(outcome, ModelAnswer):
            self._cache.put(resolved.cache_key, outcome, now - (outcome.age_s or 0.0))
        else:
            open_until = now + min(outcome.retry_in_s, self._memory_s)
        self._breakers[model] = _KnownBreaker(outcome.breaker_state, open_until)

    def known_open(self, resolved: ResolvedRequest) -> ModelFailure | None:
        """The failure to expect if the model's breaker is known to be open."""
        known, now = self._breakers.get(resolved.key.model, _KnownBreaker()), self._clock()
        if now >= known.open_until:
            return None
        return ModelFailure(FallbackReason.BREAKER_OPEN, known.state, known.open_until - now)

    def calibrate_by(self, learned: Learned) -> None:
        """Sets what was learned, for all further answers."""
        self._conformal, self._rolling = learned.state, learned.rolling
        self._skill, self._coverage = learned.skill, learned.coverage

    def skill(self) -> Mapping[SegmentOf, Paired]:
        """What is known of the models beside the baseline."""
        return self._skill

    def routed_away(self, resolved: ResolvedRequest) -> FallbackReason | None:
        """Why the baseline must answer in such markets although the model could, if it must."""
        if self._routing.mode is not RoutingMode.ENFORCE:
            return None
        segment = _skill_segment(resolved)
        pinned = pin_of(self._routing.pins, segment)
        if pinned is not None:
            return FallbackReason.PINNED_TO_BASELINE if pinned is Pin.BASELINE else None
        by = routed_by(self._skill, self._coverage, resolved.key.model, segment)
        return None if by is None else BY_EVIDENCE[by]

    def from_model(self, resolved: ResolvedRequest, answer: ModelAnswer) -> Forecast:
        """The forecast of a new answer of the model."""
        forecast = self._of_model(resolved, answer)
        self._note(forecast, resolved.key.model, answer.bands)
        return forecast

    def fresh(self, resolved: ResolvedRequest) -> Forecast | None:
        """The forecast of a cached answer that has not expired."""
        entry = self._cache.fresh(resolved.cache_key, self._clock())
        return None if entry is None else self._from_entry(resolved, entry)

    def stale(self, resolved: ResolvedRequest, reason: FallbackReason) -> Forecast | None:
        """The forecast of an expired answer that may be used because the model failed."""
        entry = self._cache.stale(resolved.cache_key, self._clock())
        if entry is None:
            return None
        forecast = self._from_entry(resolved, entry)
        return replace(
            forecast,
            cache_stale=True,
            fallback_reason=FallbackReason.STALE_IF_ERROR,
            warnings=(*forecast.warnings, f"fallback_{reason}"),
        )

    def from_baseline(
        self,
        resolved: ResolvedRequest,
        bands: Bands,
        reason: FallbackReason,
        warnings: tuple[str, ...] = (),
    ) -> Forecast:
        """The forecast of baseline bands, with the reason and further warnings."""
        limited = self._limited(resolved, bands)
        forecast = Forecast(
            resolved=resolved,
            bands=limited,
            source=Source.BASELINE,
            breaker_state=self.breaker_state(resolved.key.model),
            warnings=(*resolved.warnings, f"fallback_{reason}", *warnings, *limited.corrections),
            fallback_reason=reason,
            covariates_ignored=tuple(sorted(resolved.request.x_past)),
        )
        forecast = self._completed(forecast, BASELINE_MODEL)
        self._note(forecast, BASELINE_MODEL, bands)
        return forecast

    def _of_model(self, resolved: ResolvedRequest, answer: ModelAnswer) -> Forecast:
        bands = self._limited(resolved, answer.bands)
        forecast = Forecast(
            resolved=resolved,
            bands=bands,
            source=Source.MODEL,
            breaker_state=answer.breaker_state,
            warnings=(*resolved.warnings, *answer.notices, *bands.corrections),
            covariates_ignored=_ignored(resolved, answer),
            model=answer,
            cache_age_s=answer.age_s,
            cache_entry=self._cache.fresh(resolved.cache_key, self._clock()),
        )
        return self._completed(forecast, resolved.key.model)

    def _from_entry(self, resolved: ResolvedRequest, entry: Entry[ModelAnswer]) -> Forecast:
        return replace(
            self._of_model(resolved, entry.value),
            breaker_state=self.breaker_state(resolved.key.model),
            cache_age_s=self._clock() - entry.stored_at,
        )

    def _limited(self, resolved: ResolvedRequest, bands: Bands) -> Bands:
        """The bands within the width limits of the request, if it has its own."""
        own = resolved.request.width_limits
        if not own:
            return bands
        levels = np.asarray(resolved.key.levels)
        return relimited(bands, levels, self._bands, own, resolved.series.y_prob)

    def _note(self, forecast: Forecast, source: str, bands: Bands) -> None:
        """Adds the forecast to the outbox; ``bands`` are those before the request's own limits."""
        resolved, request = forecast.resolved, forecast.resolved.request
        if self._outbox is None or not request.observe:
            return
        self._outbox.add(
            ForecastRecord(
                market_id=request.market_id,
                freq=request.freq,
                step_s=request.step_s,
                as_of=request.as_of.timestamp(),
                observed_prob=resolved.series.observed_prob,
                levels=request.levels,
                liquidity=request.liquidity_bucket,
                source=source,
                bands=bands,
                transform=request.transform,
                closes_in_s=request.closes_in_s,
                thresholds=request.thresholds,
                above=forecast.above,
                routed_from=(
                    resolved.key.model if forecast.fallback_reason in BY_EVIDENCE.values() else None
                ),
            )
        )

    def _completed(self, forecast: Forecast, source: str) -> Forecast:
        """The forecast with all that its caller asks for besides bands."""
        calibrated = self._calibrated(forecast, source)
        return self._checked(_above(calibrated), source)

    def _calibrated(self, forecast: Forecast, source: str) -> Forecast:
        """The forecast with calibrated paths, if its caller wants them."""
        request = forecast.resolved.request
        wanted = request.conformal
        if not (self._settings.enabled_by_default if wanted is None else wanted):
            return forecast
        adjusted = self._adjusted(request, source, forecast.bands)
        warnings = forecast.warnings if adjusted else (*forecast.warnings, UNCALIBRATED)
        return replace(forecast, conformal_asked=True, conformal=adjusted, warnings=warnings)

    def _checked(self, forecast: Forecast, source: str) -> Forecast:
        """The forecast with the check of the newest prices, if the request has any aside."""
        request = forecast.resolved.request
        if not request.newest_prob.size:
            return forecast
        check = judge(request, source, forecast.bands, self._rolling, self._settings)
        return replace(forecast, check=check)

    def _adjusted(self, request: ForecastRequest, source: str, bands: Bands) -> Adjusted | None:
        """Calibrated paths, made of the bands before the width limits: factors learn from those."""
        if self._conformal is None:
            return None
        settings, levels, paths = self._settings, np.asarray(request.levels), bands.unlimited[None]
        interval = interval_of(bands.unlimited, levels, settings.target_coverage)
        segments = segment_chain(settings, request.liquidity_bucket, request.freq, interval)
        return adjust(paths, levels, self._conformal, source, segments, settings)


def _above(forecast: Forecast) -> Forecast:
    """With the probability above each threshold, of the calibrated paths where there are such."""
    request, calibrated = forecast.resolved.request, forecast.conformal
    if not request.thresholds:
        return forecast
    paths = forecast.bands.y_prob if calibrated is None else calibrated.paths[0]
    return replace(forecast, above=probability_above(paths, request.levels, request.thresholds))


def _skill_segment(resolved: ResolvedRequest) -> str:
    request, observed_prob = resolved.request, resolved.series.observed_prob
    return skill_segment(observed_prob, request.freq, request.liquidity_bucket, request.closes_in_s)


def _ignored(resolved: ResolvedRequest, answer: ModelAnswer) -> tuple[str, ...]:
    """The covariates of the request that the bands do not depend on."""
    sent = set(resolved.request.x_past)
    by_runtime = sent & set(answer.covariates_ignored)
    return tuple(sorted({*resolved.entry.covariates_ignored(sent), *by_runtime}))
