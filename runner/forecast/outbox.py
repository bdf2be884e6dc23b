"""What a replica has answered since it last told: bounded, and next to free while answering."""

from collections import deque
from collections.abc import Sequence

from runner.calibration.forecast_record import ForecastRecord
from runner.forecast.resolved_request import ResolvedRequest
from runner.types import Bands

Note = tuple[ResolvedRequest, str, Bands]


class Outbox:
    """A queue between answers and learning; the oldest go when it is full."""

    def __init__(self, max_queued: int) -> None:
        self._queue: deque[Note] = deque()
        self._max_queued = max_queued
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, plan: ResolvedRequest, source: str, bands: Bands) -> None:
        """Notes an answer; the caller waits for this, so nothing is worked out here."""
        self._queue.append((plan, source, bands))
        if len(self._queue) > self._max_queued:
            self._queue.popleft()
            self.dropped += 1

    def take(self, most: int) -> list[Note]:
        """The oldest notes, which are no longer kept."""
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def put_back(self, notes: Sequence[Note]) -> None:
        """Keeps notes again that could not be told, before newer ones, as far as there is room."""
        room = self._max_queued - len(self._queue)
        kept = notes[max(0, len(notes) - room) :]
        self.dropped += len(notes) - len(kept)
        self._queue.extendleft(reversed(kept))


def forecast_record_of(note: Note) -> ForecastRecord:
    """A note as learning needs it."""
    plan, source, bands = note
    request = plan.request
    return ForecastRecord(
        market_id=request.market_id,
        freq=request.freq,
        step_s=request.step_s,
        as_of=request.as_of.timestamp(),
        observed_prob=plan.series.observed_prob,
        levels=request.levels,
        liquidity=request.liquidity_bucket,
        source=source,
        bands=bands,
    )
