"""When a fault strikes, and what it does to an answer."""

from typing import Any

import pytest

from loadtest.stub.contract import RefusedError
from loadtest.stub.faults import (
    Fault,
    FaultPlan,
    Kind,
    parse_fault,
    refuse_by_status,
    refuse_poison,
    spoil,
)
from loadtest.stub.forecast import answer

SERIES = [
    {"id": name, "freq": "5min", "timestamps": ["a", "b", "c"], "target": [0.1, 0.4, 0.2]}
    for name in ("a", "b", "c")
]


def an_answer() -> dict[str, Any]:
    request = {"model": "mock", "horizon": 4, "quantiles": [0.1, 0.5, 0.9], "series": SERIES}
    return answer(request, 1.0, 1.0)


def spoiled(kind: Kind, arg: str | None = None, items: int | None = None) -> list[dict[str, Any]]:
    forecasts: list[dict[str, Any]] = spoil(Fault(kind, arg, items=items), an_answer())["forecasts"]
    return forecasts


def strikes(fault: Fault | None, calls: int) -> list[bool]:
    plan = FaultPlan(fault)
    return [plan.strike() is not None for _ in range(calls)]


def test_without_a_fault_nothing_strikes():
    assert strikes(None, 3) == [False, False, False]


def test_a_fault_with_a_count_strikes_that_often():
    assert strikes(Fault(Kind.BROKEN, count=2), 4) == [True, True, False, False]


def test_a_share_of_the_calls_is_hit_and_the_same_ones_again():
    hits = strikes(Fault(Kind.BROKEN, share=0.3), 1000)

    assert 250 < sum(hits) < 350
    assert hits == strikes(Fault(Kind.BROKEN, share=0.3), 1000)


def test_flapping_fails_and_works_in_turns():
    assert strikes(Fault(Kind.FLAPPING, "2"), 6) == [True, True, False, False, True, True]


def test_a_fault_is_read_from_its_command_line_form():
    assert parse_fault("429=3") == (Kind.OVERLOADED, "3")
    assert parse_fault("hang") == (Kind.HANG, None)


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 502, 503])
def test_a_status_fault_refuses_with_its_status(status: int):
    with pytest.raises(RefusedError, match=str(status)) as caught:
        refuse_by_status(Fault(Kind(str(status))))

    assert caught.value.status == status
    assert caught.value.headers == {}


def test_poison_names_the_series_and_blind_poison_does_not():
    series = [SERIES[0], {**SERIES[1], "target": [0.1, -9.0]}]

    with pytest.raises(RefusedError, match="400") as named:
        refuse_poison(Fault(Kind.POISONED, "5"), series)
    with pytest.raises(RefusedError, match="400") as blind:
        refuse_poison(Fault(Kind.POISONED_BLIND, "5"), series)

    assert named.value.detail[0]["loc"] == ["body", "series", 1]
    assert blind.value.detail["code"] == "BAD_REQUEST"


def test_an_unspoiled_answer_is_ordered_and_starts_at_the_last_value():
    forecast = an_answer()["forecasts"][0]
    low, middle, high = forecast["quantiles"].values()

    assert forecast["mean"] == middle == [0.2] * 4
    assert all(a < 0.2 < b for a, b in zip(low, high, strict=True))
    assert high == sorted(high)


def test_faults_of_other_kinds_leave_the_answer_alone():
    whole = an_answer()

    assert spoil(Fault(Kind.LATENCY), whole) is whole


def test_nan_values_leave_holes():
    assert spoiled(Kind.NAN_VALUES)[0]["quantiles"]["0.1"][-1] is None


def test_a_missing_quantile_is_the_last_one():
    assert list(spoiled(Kind.MISSING_QUANTILE)[0]["quantiles"]) == ["0.1", "0.5"]


def test_quantiles_null_leaves_the_mean():
    forecast = spoiled(Kind.QUANTILES_NULL)[0]

    assert forecast["quantiles"] is None
    assert len(forecast["mean"]) == 4


@pytest.mark.parametrize(("arg", "length"), [(None, 3), ("-2", 2), ("3", 7)])
def test_a_wrong_horizon_is_shorter_or_longer(arg: str | None, length: int):
    forecast = spoiled(Kind.WRONG_HORIZON, arg)[0]

    assert {len(path) for path in forecast["quantiles"].values()} == {length}


def test_crossed_levels_descend():
    low, _, high = spoiled(Kind.CROSSED)[0]["quantiles"].values()

    assert all(a > b for a, b in zip(low, high, strict=True))


def test_swapped_ids_are_all_there_in_the_wrong_places():
    assert [f["id"] for f in spoiled(Kind.SWAPPED_IDS)] == ["b", "c", "a"]


def test_a_swapped_id_of_a_lone_series_is_one_nobody_asked_for():
    assert [f["id"] for f in spoiled(Kind.SWAPPED_IDS, items=1)] == ["not-a", "b", "c"]


def test_a_missing_id_is_missing_for_as_many_items_as_told():
    assert ["id" in f for f in spoiled(Kind.MISSING_ID, items=1)] == [False, True, True]


def test_a_missing_series_is_left_out():
    assert [f["id"] for f in spoiled(Kind.MISSING_SERIES, items=1)] == ["b", "c"]


def test_duplicate_ids_are_the_first_ones():
    assert [f["id"] for f in spoiled(Kind.DUPLICATE_IDS)] == ["a", "a", "a"]
