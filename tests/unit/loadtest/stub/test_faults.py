"""When a fault strikes, and what it does to an answer."""

from typing import Any

import pytest

from loadtest.stub.contract import RefusedError
from loadtest.stub.faults import (
    Fault,
    FaultPlan,
    Kind,
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


def test_a_share_of_the_calls_is_hit_and_the_same_ones_again():
    hits = strikes(Fault(Kind.BROKEN, share=0.3), 1000)

    assert 250 < sum(hits) < 350
    assert hits == strikes(Fault(Kind.BROKEN, share=0.3), 1000)


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


@pytest.mark.parametrize(
    ("fault", "hits"),
    [
        (None, [False] * 6),
        (Fault(Kind.BROKEN, count=2), [True, True, False, False, False, False]),
        (Fault(Kind.FLAPPING, "2"), [True, True, False, False, True, True]),
    ],
)
def test_plan_says_which_calls_a_fault_hits(fault: Fault | None, hits: list[bool]):
    assert strikes(fault, 6) == hits


@pytest.mark.parametrize(
    ("kind", "arg", "lengths"),
    [
        (Kind.LATENCY, None, {"0.1": 4, "0.5": 4, "0.9": 4}),
        (Kind.MISSING_QUANTILE, None, {"0.1": 4, "0.5": 4}),
        (Kind.QUANTILES_NULL, None, None),
        (Kind.WRONG_HORIZON, None, {"0.1": 3, "0.5": 3, "0.9": 3}),
        (Kind.WRONG_HORIZON, "-2", {"0.1": 2, "0.5": 2, "0.9": 2}),
        (Kind.WRONG_HORIZON, "3", {"0.1": 7, "0.5": 7, "0.9": 7}),
    ],
)
def test_fault_changes_levels_and_lengths(kind: Kind, arg: str | None, lengths: dict | None):
    quantiles = spoiled(kind, arg)[0]["quantiles"]

    assert (quantiles and {q: len(path) for q, path in quantiles.items()}) == lengths


@pytest.mark.parametrize(
    ("kind", "items", "ids"),
    [
        (Kind.SWAPPED_IDS, None, ["b", "c", "a"]),
        (Kind.SWAPPED_IDS, 1, ["not-a", "b", "c"]),
        (Kind.MISSING_ID, 1, [None, "b", "c"]),
        (Kind.MISSING_SERIES, 1, ["b", "c"]),
        (Kind.DUPLICATE_IDS, None, ["a", "a", "a"]),
    ],
)
def test_fault_changes_ids_of_so_many_series(kind: Kind, items: int | None, ids: list[str | None]):
    assert [forecast.get("id") for forecast in spoiled(kind, items=items)] == ids


def test_fault_changes_values():
    low, _, high = spoiled(Kind.CROSSED)[0]["quantiles"].values()

    assert all(a > b for a, b in zip(low, high, strict=True))
    assert spoiled(Kind.NAN_VALUES)[0]["quantiles"]["0.1"][-1] is None
