"""Where the time goes: the stages add up, and calls of a batch are counted once."""

from typing import Any

import orjson
import pytest

from loadtest.drills.parts.stages import batch_stages, stage_table, stages_of

BASELINE = {"meta": {"latency_ms": 3.0, "cache_hit": False}}
CACHED = {"meta": {"latency_ms": 0.2, "queue_ms": 9, "runtime_ms": 9, "cache_hit": True}}


def forecast(queue_ms: float, runtime_ms: float, batch_size: int) -> dict[str, Any]:
    times = {"queue_ms": queue_ms, "runtime_ms": runtime_ms, "batch_size": batch_size}
    times["cache_hit"] = False
    return {"meta": {"latency_ms": queue_ms + runtime_ms + 6.0, **times}}


def runtime_ms(series: float) -> float:
    return 40.0 + series


def timed(ms: float, content: object) -> tuple[float, bytes]:
    return ms, orjson.dumps(content)


def test_stages_of_forecasts_by_the_model_add_up_to_the_time_at_the_caller() -> None:
    others = [timed(70.0, forecast(10.0, 47.0, 3))] * 3
    alone = timed(52.0, forecast(0.0, 43.0, 1))
    without = timed(9.0, BASELINE), timed(0.5, CACHED)
    found = stages_of([*others, alone, *without], runtime_ms)

    assert found["series"] == pytest.approx(2)  # four forecasts in two calls
    assert found["caller_ms"] == pytest.approx((3 * 70 + 52) / 4)
    assert found["before_ms"] == pytest.approx((3 * 7 + 3) / 4)
    assert found["ingress_ms"] == pytest.approx(6)
    assert found["over_ms"] == pytest.approx((3 * 4 + 2) / 4)
    stages = ("before_ms", "ingress_ms", "queue_ms", "direct_ms", "over_ms")
    assert sum(found[name] for name in stages) == pytest.approx(found["caller_ms"])


def test_without_a_forecast_by_the_model_there_are_no_stages() -> None:
    assert stages_of([timed(9.0, BASELINE), timed(0.5, CACHED)], runtime_ms) == {}
    assert batch_stages(timed(9.0, {"results": [{"ok": BASELINE}]}), 1, runtime_ms) == {}
    assert batch_stages(timed(9.0, {"results": []}), 1, runtime_ms) == {}


def test_each_call_of_a_batch_counts_once() -> None:
    items = [forecast(5.0, 45.0, 2)] * 2 + [forecast(60.0, 44.0, 1), BASELINE]
    results = [{"ok": item} for item in items] + [{"error": {}}]
    found = batch_stages(timed(120.0, {"results": results}), 5, runtime_ms)

    assert found == {"direct_ms": 83.0, "over_ms": 6.0, "rest_ms": 31.0}


def test_table_has_the_medians_of_the_loads_that_were_measured() -> None:
    names = ("series", "caller_ms", "before_ms", "ingress_ms", "queue_ms", "direct_ms", "over_ms")
    rounds = [{f"{name}_8": float(value) for name in names} for value in (1, 2, 9)]

    assert stage_table([*rounds, {}], (1, 8)).splitlines()[2:] == ["| 8 |" + " 2.0 |" * 7]
