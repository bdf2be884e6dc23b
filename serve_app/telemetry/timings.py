"""Where the time of one forecast went, and the ``Server-Timing`` header that says so."""

from dataclasses import dataclass

from runner.forecast.answers import Forecast


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds; None where an answer did not pass through a stage.

    Attributes:
        admission_ms: reading the body, understanding it.
        queue_ms: waiting for a runtime slot, in the Runner.
        runtime_ms: the runtime call.
        post_ms: writing the answer.
        total_ms: from the first byte read; the hop between replicas is in here alone.
    """

    admission_ms: float | None
    queue_ms: float | None
    runtime_ms: float | None
    post_ms: float
    total_ms: float

    def timed(self) -> list[tuple[str, float]]:
        """Those that the answer passed through, by name."""
        named = (
            ("admission", self.admission_ms),
            ("queue", self.queue_ms),
            ("runtime", self.runtime_ms),
            ("post", self.post_ms),
            ("total", self.total_ms),
        )
        return [(name, ms) for name, ms in named if ms is not None]

    def header(self) -> bytes:
        """The value of ``Server-Timing``.

        >>> Stages(0.5, None, None, 0.125, 2.0).header()
        b'admission;dur=0.500, post;dur=0.125, total;dur=2.000'
        """
        return ", ".join(f"{name};dur={ms:.3f}" for name, ms in self.timed()).encode()


def timings_of(
    began: float, admitted: float | None, answered: float, ended: float, forecast: Forecast
) -> Timings:
    """The stages between four moments on one clock, in seconds.

    Args:
        began: the first byte was read.
        admitted: the request was understood; None for items of a batch, which share that.
        answered: there was a forecast.
        ended: it was written.
        forecast: that forecast; a kept one waited for no call.
    """
    model = forecast.model if forecast.cache_age_s is None else None
    return Timings(
        admission_ms=None if admitted is None else (admitted - began) * 1e3,
        queue_ms=None if model is None else model.queue_ms,
        runtime_ms=None if model is None else model.runtime_ms,
        post_ms=(ended - answered) * 1e3,
        total_ms=(ended - began) * 1e3,
    )


def kept_header(total_ms: float) -> bytes:
    """The same for bytes that were kept.

    >>> kept_header(0.25)
    b'cache;desc=hit, total;dur=0.250'
    """
    return b"cache;desc=hit, total;dur=%.3f" % total_ms
