"""A bounded queue of answered forecasts for the learning actor."""

from collections import deque
from collections.abc import Sequence

from runner.calibration.forecast_record import ForecastRecord
from runner.forecast.resolved_request import ResolvedRequest
from runner.types import Bands

Note = tuple[ResolvedRequest, str, Bands]


class Outbox:
    """Forecasts not yet sent to the learning actor; if it is full, the oldest are dropped."""

    def __init__(self, max_queued: int) -> None:
        self._queue: deque[Note] = deque()
        self._max_queued = max_queued
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, resolved: ResolvedRequest, source: str, bands: Bands) -> None:
        """Adds an answer; the request waits for this, so nothing is computed here."""
        self._queue.append((resolved, source, bands))
        if len(self._queue) > self._max_queued:
            self._queue.popleft()
            self.dropped += 1

    def take(self, most: int) -> list[Note]:
        """Removes and returns the oldest notes."""
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def put_back(self, notes: Sequence[Note]) -> None:
        """Puts notes that could not be sent before the others; if it is full, drops the oldest."""
        room = self._max_queued - len(self._queue)
        kept = notes[max(0, len(notes) - room) :]
        self.dropped += len(notes) - len(kept)
        self._queue.extendleft(reversed(kept))


def forecast_record_of(note: Note) -> ForecastRecord:
    """The fields of a note that the learning actor needs."""
    resolved, source, bands = note
    request = resolved.request
    return ForecastRecord(
        market_id=request.market_id,
        freq=request.freq,
        step_s=request.step_s,
        as_of=request.as_of.timestamp(),
        observed_prob=resolved.series.observed_prob,
        levels=request.levels,
        liquidity=request.liquidity_bucket,
        source=source,
        bands=bands,
    )
