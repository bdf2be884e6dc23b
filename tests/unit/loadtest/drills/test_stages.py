"""Where the time goes: the stages add up, and calls of a batch are counted once."""

from typing import Any

import orjson
import pytest

from loadtest.drills.parts.stages import batch_stages, stage_table, stages_of

BASELINE = {"meta": {"latency_ms": 3.0}}


def forecast(queue_ms: float, runtime_ms: float, batch_size: int) -> dict[str, Any]:
    times = {"queue_ms": queue_ms, "runtime_ms": runtime_ms, "batch_size": batch_size}
    return {"meta": {"latency_ms": queue_ms + runtime_ms + 6.0, **times}}


def runtime_ms(series: float) -> float:
    return 40.0 + series


def timed(ms: float, content: object) -> tuple[float, bytes]:
    return ms, orjson.dumps(content)


def test_stages_of_forecasts_by_the_model_add_up_to_the_time_at_the_caller() -> None:
    others = [timed(70.0, forecast(10.0, 47.0, 3))] * 3
    alone = timed(52.0, forecast(0.0, 43.0, 1))
    found = stages_of([*others, alone, timed(9.0, BASELINE)], runtime_ms)

    assert found["series"] == pytest.approx(2)  # four forecasts in two calls
    assert found["caller_ms"] == pytest.approx((3 * 70 + 52) / 4)
    assert found["http_ms"] == pytest.approx((3 * 7 + 3) / 4)
    assert found["hop_ms"] == pytest.approx(6)
    assert found["around_ms"] == pytest.approx((3 * 4 + 2) / 4)
    stages = ("http_ms", "hop_ms", "queue_ms", "runtime_ms", "around_ms")
    assert sum(found[name] for name in stages) == pytest.approx(found["caller_ms"])


def test_forecasts_of_the_baseline_alone_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="model"):
        stages_of([timed(9.0, BASELINE)], runtime_ms)


def test_each_call_of_a_batch_counts_once() -> None:
    items = [forecast(5.0, 45.0, 2)] * 2 + [forecast(60.0, 44.0, 1), BASELINE]
    results = [{"ok": item} for item in items] + [{"error": {}}]
    found = batch_stages(timed(120.0, {"results": results}), 5, runtime_ms)

    assert found == {"runtime_ms": 83.0, "around_ms": 6.0, "outside_ms": 31.0}


def test_table_has_the_medians_of_the_loads_that_were_measured() -> None:
    names = ("series", "caller_ms", "http_ms", "hop_ms", "queue_ms", "runtime_ms", "around_ms")
    rounds = [{f"{name}_8": float(value) for name in names} for value in (1, 2, 9)]

    assert stage_table(rounds, (1, 8)).splitlines()[2:] == ["| 8 |" + " 2.0 |" * 7]
