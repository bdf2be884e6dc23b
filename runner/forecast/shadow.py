"""Asks models for a part of what they did not answer, so that their skill is known.

Asked are the models of `routing.shadow`, and a model whose answers go to the baseline because it
loses: its skill could not change otherwise. It works on forecast records after they were sent to
the learning actor: no answer waits for it. The items are bulk, one set is asked at a time, and what
arrives meanwhile is not asked.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from runner.calibration.coverage import ForecastRecord, SegmentOf
from runner.calibration.skill import LEAST_FORECASTS, Paired
from runner.config.loading import Config
from runner.config.registry import ModelEntry, Registry, shadow_models
from runner.forecast.answers import ModelOutcome
from runner.forecast.forecaster import ModelPort
from runner.types import BatchKey, FallbackReason, ModelAnswer, ModelRequest, Priority

logger = logging.getLogger(__name__)

# Of a market that is asked every five minutes one forecast in about an hour is scored.
ASKED_ONE_IN = 10
MAX_AT_ONCE = 64  # items of one model: a few runtime calls


class Shadow:
    """The shadow models of one replica; ``keep`` takes the records of their forecasts."""

    def __init__(
        self,
        registry: Registry,
        model: ModelPort,
        config: Config,
        keep: Callable[[ForecastRecord], None],
        known: Callable[[], Mapping[SegmentOf, Paired]],
    ) -> None:
        """``known`` gives what is known of the models now."""
        self._registry, self._model, self._keep, self._known = registry, model, keep, known
        self._always = {entry.runtime_name for entry in shadow_models(registry, config)}
        self._least_points = config.fallback.min_points_for_tsfm
        self._budget_s = config.request.batch_deadline_ms / 1e3
        self._asking: asyncio.Task[None] | None = None
        self._warned: set[str] = set()

    def offer(self, records: Sequence[ForecastRecord]) -> None:
        """Asks for a sample of these records in the background, unless others are being asked."""
        if self._asking is None or self._asking.done():
            sampled = [one for one in records if self._is_sampled(one)]
            models = {model for one in sampled for model in self._models_for(one)}
            if models:
                self._asking = asyncio.create_task(self.ask(sampled, models), name="shadow")

    async def ask(self, records: Sequence[ForecastRecord], models: Collection[str]) -> None:
        """Asks each model for the records that it is wanted for, and keeps what it answers."""
        for model in sorted(models):
            entry = self._registry.by_name[model]
            fit = [one for one in records if self._suits(entry, one)][:MAX_AT_ONCE]
            items = [_item(entry, one, self._budget_s) for one in fit]
            if items:
                async for ready in self._model.forecast_many(items):
                    for index, outcome in ready:
                        self._take(fit[index], model, outcome)

    def _take(self, record: ForecastRecord, model: str, outcome: ModelOutcome) -> None:
        if not isinstance(outcome, ModelAnswer):
            self._warn(model, outcome.reason)
        else:
            own = replace(record, source=model, bands=outcome.bands, is_shadow=True)
            self._keep(replace(own, above=None, routed_from=None))

    def _warn(self, model: str, reason: FallbackReason) -> None:
        """Logs once for each model that it is not installed: its callers would not notice."""
        if reason is FallbackReason.MODEL_NOT_INSTALLED and model not in self._warned:
            self._warned.add(model)
            logger.warning("shadow model %s is not installed in the runtime: not scored", model)

    def _is_sampled(self, record: ForecastRecord) -> bool:
        """One in `ASKED_ONE_IN`, and every one of a routed segment of which little is known."""
        if record.routed_from is not None:
            known = self._known().get((record.routed_from, record.skill_segment), Paired())
            if known.forecasts < LEAST_FORECASTS:
                return True
        return is_shadowed(record.market_id, record.as_of)

    def _models_for(self, record: ForecastRecord) -> set[str]:
        if record.is_shadow:
            return set()
        routed = set() if record.routed_from is None else {record.routed_from}
        return (self._always | routed) - {record.source}

    def _suits(self, entry: ModelEntry, record: ForecastRecord) -> bool:
        points = int(np.isfinite(record.observed_prob).sum())
        is_wanted = entry.runtime_name in self._models_for(record)
        return is_wanted and points >= self._least_points and entry.gives(record.levels)


def is_shadowed(market_id: str, as_of: float) -> bool:
    """Whether models are asked too: one in `ASKED_ONE_IN`, the same at all replicas."""
    return crc32(f"shadow|{market_id}|{as_of:.0f}".encode()) % ASKED_ONE_IN == 0


def _item(entry: ModelEntry, record: ForecastRecord, budget_s: float) -> ModelRequest:
    y_prob = _filled(record.observed_prob)[-(entry.max_context or 0) :]
    steps = len(record.bands.y_prob)
    name = f"shadow|{entry.runtime_name}|{record.market_id}|{record.as_of}|{steps}|{record.levels}"
    return ModelRequest(
        key=BatchKey(entry.runtime_name, steps, record.levels),
        y_prob=y_prob,
        transform=record.transform,
        end_ts=record.as_of,
        step_s=record.step_s,
        budget_s=budget_s,
        cache_key=hashlib.blake2b(name.encode() + y_prob.tobytes(), digest_size=16).digest(),
        priority=Priority.BULK,
    )


def _filled(observed_prob: np.ndarray) -> np.ndarray:
    """With the last known value in gaps, and the first one before it."""
    known = np.flatnonzero(np.isfinite(observed_prob))
    last = np.searchsorted(known, np.arange(observed_prob.size), side="right") - 1
    return np.asarray(observed_prob[known[np.maximum(last, 0)]])
