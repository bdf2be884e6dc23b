"""One runtime call for a batch: breaker, runtime, back to probability, safe bands.

Transform and encoding come before, in `batch_item`.

A call that exceeds the time limit is *abandoned*: its callers get an error, but the runtime goes on
computing (a client that disconnects does not stop the inference). Until it ends the dispatcher
keeps its slot taken; late results go to ``on_late`` for the cache.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runner.bands import from_model_space, min_widths, sanitize, to_model_space
from runner.batching.dispatcher import BatchResult
from runner.breaker.state_machine import CallResult, Permit, Verdict, call_result
from runner.config.sections import BandsSection, TollamaSection
from runner.errors import BadOutputError, ModelError, RuntimeRejectedError, RuntimeTimeoutError
from runner.tollama.wire import EncodedSeries, encode_series
from runner.types import (
    Bands,
    BatchKey,
    FloatArray,
    ModelRequest,
    ModelSeries,
    RuntimeForecast,
    Transform,
)

RuntimeResult = RuntimeForecast | ModelError
# Of the values that a runtime gets. Models compute in 32 bits, which have seven digits. Numbers
# written in full make a call of 128 series an eighth longer in tollama 0.1.0 (185, not 164 ms).
DECIMALS = 8


@dataclass(frozen=True, slots=True, eq=False)
class BatchItem:
    """A request, and its series as the runtime gets it."""

    request: ModelRequest
    series: EncodedSeries


def batch_item(request: ModelRequest) -> BatchItem:
    """The item of a request, to be made when it arrives: most wait while a call runs anyway.

    Raises:
        RuntimeRejectedError: the series may not be sent.
    """
    y = np.round(to_model_space(request.y_prob, request.transform), DECIMALS)
    series = ModelSeries(y, request.end_ts, request.step_s, request.x_past, request.x_future)
    return BatchItem(request, encode_series(series))


@dataclass(frozen=True, slots=True, eq=False)
class ItemResult:
    """One item's bands and the call they came from; times on this process's clock, in seconds."""

    bands: Bands
    batch_size: int
    began: float
    ended: float
    notices: tuple[str, ...] = ()
    covariates_ignored: tuple[str, ...] = ()


class RuntimePort(Protocol):
    """Forecasts from one runtime."""

    async def forecast(
        self, key: BatchKey, series: Sequence[EncodedSeries], *, budget_s: float
    ) -> list[RuntimeResult]:
        """The forecast, or an error, of each series; raises ModelError for all."""


class BreakersPort(Protocol):
    """The breakers of all models, as last known in this replica."""

    async def acquire(self, name: str) -> Permit:
        """A permit for one call; raises BreakerOpenError."""

    def record(self, name: str, permit: Permit, result: CallResult, duration_s: float) -> None:
        """How the call of a permit ended."""


class BatchCall:
    """Callable for the dispatcher: a batch of items that share a key, to bands or errors."""

    def __init__(
        self,
        runtime: RuntimePort,
        breakers: BreakersPort,
        breaker_of: Callable[[str], str],
        tollama: TollamaSection,
        limits: BandsSection,
        clock: Callable[[], float],
        on_late: Callable[[Sequence[BatchItem], Sequence[ItemResult | Exception]], None],
    ) -> None:
        """``breaker_of`` names the breaker of a model at this runtime."""
        self._runtime = runtime
        self._breakers = breakers
        self._breaker_of = breaker_of
        self._tollama = tollama
        self._limits = limits
        self._clock = clock
        self._on_late = on_late

    async def __call__(self, key: BatchKey, items: Sequence[BatchItem]) -> BatchResult[ItemResult]:
        """One result or error per item, in order.

        Raises:
            BreakerOpenError: the model may not be called now.
        """
        breaker = self._breaker_of(key.model)
        permit = await self._breakers.acquire(breaker)
        began = self._clock()
        series = [item.series for item in items]
        call = asyncio.ensure_future(
            self._runtime.forecast(key, series, budget_s=self._tollama.lease_s)
        )
        try:
            await asyncio.wait((call,), timeout=self._tollama.timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            ignored = CallResult(Verdict.IGNORED)  # gives a probe's permit back
            self._breakers.record(breaker, permit, ignored, 0.0)
            raise
        raw = _results_so_far(call, len(items))
        self._breakers.record(breaker, permit, _verdict(raw), self._clock() - began)
        abandoned = None if call.done() else self._abandon(call, key, items, began)
        return BatchResult(self._item_results(key, items, raw, began), abandoned)

    def _abandon(
        self,
        call: asyncio.Future[list[RuntimeResult]],
        key: BatchKey,
        items: Sequence[BatchItem],
        began: float,
    ) -> asyncio.Future[None]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finish(_: object) -> None:
            if not call.cancelled():
                raw = _results_so_far(call, len(items))
                self._on_late(items, self._item_results(key, items, raw, began))
            if not ended.done():
                ended.set_result(None)

        call.add_done_callback(finish)
        ended.add_done_callback(lambda _: call.cancel())  # the lease ended: stop waiting
        return ended

    def _item_results(
        self,
        key: BatchKey,
        items: Sequence[BatchItem],
        raw: Sequence[RuntimeResult],
        began: float,
    ) -> list[ItemResult | Exception]:
        results: list[ItemResult | Exception] = [
            r if isinstance(r, ModelError) else BadOutputError() for r in raw
        ]
        usable = {i: r for i, r in enumerate(raw) if not isinstance(r, ModelError)}
        if not usable:
            return results
        rows = list(usable)
        paths = np.stack([forecast.paths for forecast in usable.values()])  # (B, H, Q)
        y_prob = _from_model_spaces(paths, [items[i].request.transform for i in rows])
        least = min_widths((items[i].request.y_prob for i in rows), self._limits)
        sanitized = sanitize(y_prob, np.asarray(key.levels), self._limits, least)
        ended = self._clock()
        for b, i in enumerate(rows):
            if sanitized.usable[b]:
                said = usable[i].notices, usable[i].covariates_ignored
                results[i] = ItemResult(sanitized.row(b), len(items), began, ended, *said)
        return results


def _from_model_spaces(paths: FloatArray, transforms: Sequence[Transform]) -> FloatArray:
    """``(B, H, Q)`` probabilities; rows may have been modelled in different spaces."""
    if len(set(transforms)) == 1:
        return from_model_space(paths, transforms[0])
    rows = [from_model_space(paths[b], transform) for b, transform in enumerate(transforms)]
    return np.stack(rows)


def _results_so_far(call: asyncio.Future[list[RuntimeResult]], count: int) -> list[RuntimeResult]:
    """The results of a call; its error, or a timeout while it runs, once for every item."""
    if not call.done():
        return [RuntimeTimeoutError()] * count
    error = call.exception()
    if isinstance(error, ModelError):
        return [error] * count
    return call.result()


def _verdict(raw: Sequence[RuntimeResult]) -> CallResult:
    """Success if any item has an answer, else by the first error that is no rejection."""
    errors = [r for r in raw if isinstance(r, ModelError)]
    if len(errors) < len(raw):
        return call_result(None)
    failures = [e for e in errors if not isinstance(e, RuntimeRejectedError)]
    return call_result((failures or errors)[0])
