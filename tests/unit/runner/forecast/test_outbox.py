import numpy as np
import pytest

from runner.forecast.outbox import Outbox, forecast_record_of
from runner.forecast.resolved_request import resolve_request
from tests.support.builders import make_bands, make_config, make_registry, make_request

CONFIG, REGISTRY = make_config(), make_registry()


def plan_of(market: str, **changes):
    return resolve_request(make_request(market_id=market, **changes), REGISTRY, CONFIG)


def told(notes: Outbox) -> list[str]:
    return [plan.request.market_id for plan, _, _ in notes.take(100)]


def filled(count: int, room: int = 3) -> Outbox:
    notes = Outbox(room)
    for number in range(count):
        notes.add(plan_of(f"m-{number}"), "ewma", make_bands())
    return notes


def test_notes_are_taken_oldest_first_and_once() -> None:
    notes = filled(3)

    first = notes.take(2)

    assert [plan.request.market_id for plan, _, _ in first] == ["m-0", "m-1"]
    assert told(notes) == ["m-2"]
    assert len(notes) == 0


def test_full_queue_drops_the_oldest_and_counts_it() -> None:
    notes = filled(5)

    assert told(notes) == ["m-2", "m-3", "m-4"]
    assert notes.dropped == 2


def test_what_could_not_be_told_comes_first_again() -> None:
    notes = filled(3)
    notes.put_back(notes.take(2))

    assert told(notes) == ["m-0", "m-1", "m-2"]
    assert notes.dropped == 0


@pytest.mark.parametrize(("newer", "left"), [(1, ["m-1", "m-2", "x"]), (3, ["x", "x", "x"])])
def test_what_comes_back_gives_way_to_newer_notes(newer: int, left: list[str]) -> None:
    notes = filled(3)
    taken = notes.take(3)
    for _ in range(newer):
        notes.add(plan_of("x"), "ewma", make_bands())
    notes.put_back(taken)

    assert told(notes) == left
    assert notes.dropped == newer


def test_filled_steps_are_not_told_as_values() -> None:
    plan = plan_of("m-1", y_prob=np.array([0.4, np.nan, 0.5]), liquidity_bucket="high")
    told = forecast_record_of((plan, "ewma", make_bands()))

    assert told.observed_prob[[0, 2]].tolist() == [0.4, 0.5]
    assert str(told.observed_prob[1]) == "nan"
    assert (told.market_id, told.source, told.liquidity) == ("m-1", "ewma", "high")
    assert (told.as_of, told.step_s, told.freq) == (plan.request.as_of.timestamp(), 300, "5m")
