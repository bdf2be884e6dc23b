import numpy as np
import pytest

from runner.forecast.outbox import Outbox, forecast_record_of
from tests.support.builders import make_bands
from tests.unit.runner.forecast.forecasters import resolved


def market_ids(outbox: Outbox) -> list[str]:
    return [request.request.market_id for request, _, _ in outbox.take(100)]


def filled(count: int, max_queued: int = 3) -> Outbox:
    outbox = Outbox(max_queued)
    for number in range(count):
        outbox.add(resolved(market_id=f"m-{number}"), "ewma", make_bands())
    return outbox


def test_full_queue_drops_the_oldest_and_counts_it() -> None:
    outbox = filled(5)

    assert market_ids(outbox) == ["m-2", "m-3", "m-4"]
    assert outbox.dropped == 2
    assert len(outbox) == 0


def test_notes_that_could_not_be_sent_are_the_first_again() -> None:
    outbox = filled(3)
    outbox.put_back(outbox.take(2))

    assert market_ids(outbox) == ["m-0", "m-1", "m-2"]
    assert outbox.dropped == 0


@pytest.mark.parametrize(("newer", "left"), [(1, ["m-1", "m-2", "x"]), (3, ["x", "x", "x"])])
def test_notes_put_back_are_dropped_before_newer_ones(newer: int, left: list[str]) -> None:
    outbox = filled(3)
    taken = outbox.take(3)
    for _ in range(newer):
        outbox.add(resolved(market_id="x"), "ewma", make_bands())
    outbox.put_back(taken)

    assert market_ids(outbox) == left
    assert outbox.dropped == newer


def test_record_holds_no_values_for_filled_steps() -> None:
    request = resolved(
        market_id="m-1", y_prob=np.array([0.4, np.nan, 0.5]), liquidity_bucket="high"
    )
    record = forecast_record_of((request, "ewma", make_bands()))

    np.testing.assert_array_equal(record.observed_prob, [0.4, np.nan, 0.5])
    assert (record.market_id, record.source, record.liquidity) == ("m-1", "ewma", "high")
    as_of = request.request.as_of.timestamp()
    assert (record.as_of, record.step_s, record.freq) == (as_of, 300, "5m")
