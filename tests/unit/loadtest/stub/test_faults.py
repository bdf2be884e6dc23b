"""What a fault does to an answer, and which calls of a flapping runtime fail."""

from typing import Any

import pytest

from loadtest.stub.app import Runtime, Settings
from loadtest.stub.contract import RefusedError
from loadtest.stub.faults import parse_fault, refuse_poison, spoil
from loadtest.stub.forecast import answer

SERIES = [
    {"id": name, "freq": "5min", "timestamps": ["a", "b", "c"], "target": [0.1, 0.4, 0.2]}
    for name in ("a", "b", "c")
]
REQUEST = {"model": "mock", "horizon": 4, "quantiles": [0.1, 0.5, 0.9], "series": SERIES}


def spoiled(fault: str) -> list[dict[str, Any]]:
    forecasts: list[dict[str, Any]] = spoil(parse_fault(fault), answer(REQUEST, 1.0))["forecasts"]
    return forecasts


def test_poison_names_the_series_and_blind_poison_does_not():
    series = [SERIES[0], {**SERIES[1], "target": [0.1, -9.0]}]

    with pytest.raises(RefusedError, match="400") as named:
        refuse_poison(parse_fault("poisoned=5"), series)
    with pytest.raises(RefusedError, match="400") as blind:
        refuse_poison(parse_fault("poisoned_blind=5"), series)

    assert named.value.detail[0]["loc"] == ["body", "series", 1]
    assert blind.value.detail["code"] == "BAD_REQUEST"


def test_an_unspoiled_answer_is_ordered_and_starts_at_the_last_value():
    forecast = answer(REQUEST, 1.0)["forecasts"][0]
    low, middle, high = forecast["quantiles"].values()

    assert forecast["mean"] == middle == [0.2] * 4
    assert all(a < 0.2 < b for a, b in zip(low, high, strict=True))
    assert high == sorted(high)


def test_flapping_runtime_fails_so_many_calls_and_spares_the_next():
    runtime = Runtime(Settings(), parse_fault("flapping=2"))

    failed = [runtime.strike() is not None for _ in range(6)]

    assert failed == [True, True, False, False, True, True]


@pytest.mark.parametrize(
    ("fault", "lengths"),
    [
        ("latency", {"0.1": 4, "0.5": 4, "0.9": 4}),
        ("missing_quantile", {"0.1": 4, "0.5": 4}),
        ("quantiles_null", None),
        ("wrong_horizon", {"0.1": 3, "0.5": 3, "0.9": 3}),
        ("wrong_horizon=3", {"0.1": 7, "0.5": 7, "0.9": 7}),
    ],
)
def test_fault_changes_levels_and_lengths(fault: str, lengths: dict | None):
    quantiles = spoiled(fault)[0]["quantiles"]

    assert (quantiles and {q: len(path) for q, path in quantiles.items()}) == lengths


@pytest.mark.parametrize(
    ("fault", "ids"),
    [
        ("swapped_ids", ["b", "c", "a"]),
        ("missing_id", [None, None, None]),
        ("missing_series", []),
        ("duplicate_ids", ["a", "a", "a"]),
    ],
)
def test_fault_changes_ids(fault: str, ids: list[str | None]):
    assert [forecast.get("id") for forecast in spoiled(fault)] == ids


def test_fault_changes_values():
    low, _, high = spoiled("crossed")[0]["quantiles"].values()

    assert all(a > b for a, b in zip(low, high, strict=True))
    assert spoiled("nan_values")[0]["quantiles"]["0.1"][-1] is None
