"""Shadow models are asked for a part of what was answered, and kept like the others."""

import asyncio
from typing import Any

import numpy as np
import pytest

from runner.calibration.coverage import ForecastRecord
from runner.config.registry import shadow_models
from runner.errors import ConfigError
from runner.forecast.shadow import ASKED_ONE_IN, MAX_AT_ONCE, Shadow, is_shadowed
from runner.types import FallbackReason, Priority
from tests.support.builders import make_answer, make_bands, make_config
from tests.support.learning import make_seen
from tests.unit.runner.forecast.forecasters import REGISTRY, FakeModel, failure

SHADOW = "chronos2"


class Bench:
    """Shadow models with a fake behind them, and the records that were kept."""

    def __init__(self, *names: str) -> None:
        self.model = FakeModel()
        self.model.outcome = make_answer(bands=make_bands(3))
        self.kept: list[ForecastRecord] = []
        config = make_config(routing={"shadow": names or (SHADOW,)})
        entries = shadow_models(REGISTRY, config)
        self.names = [entry.runtime_name for entry in entries]
        self.shadow = Shadow(entries, self.model, config, self.kept.append)


def record(number: int = 0, points: int = 60, **changes: Any) -> ForecastRecord:
    return make_seen(0, *[0.5] * points, market=f"m-{number}", **{"source": "fracast-0", **changes})


async def test_a_record_is_asked_for_and_kept_under_the_models_name() -> None:
    bench = Bench()
    gap = record(observed_prob=np.array([np.nan, 0.4, np.nan, *[0.5] * 60]))
    await bench.shadow.ask([gap])

    (asked,), (kept,) = bench.model.calls[0], bench.kept
    assert (asked.key.model, asked.key.horizon_steps) == (bench.names[0], 3)
    assert (asked.priority, asked.end_ts) == (Priority.BULK, gap.as_of)
    assert asked.y_prob[:4].tolist() == [0.4, 0.4, 0.4, 0.5]
    assert (kept.source, kept.market_id) == (bench.names[0], "m-0")
    assert kept.bands.y_prob.tolist() == make_bands(3).y_prob.tolist()


@pytest.mark.parametrize(
    "unfit", [record(points=10), record(levels=(0.0123, 0.5, 0.9))], ids=["short", "levels"]
)
async def test_series_that_do_not_suit_and_failures_are_left_out(unfit: ForecastRecord) -> None:
    bench = Bench("timesfm")
    bench.model.outcome = failure(FallbackReason.RUNTIME_ERROR)
    await bench.shadow.ask([unfit, record(1)])

    assert [len(call) for call in bench.model.calls] == [1]
    assert bench.kept == []


async def test_only_a_sample_is_asked_at_most_so_many_and_one_set_at_a_time() -> None:
    bench = Bench()
    many = [record(number) for number in range(2000)]
    wanted = sum(is_shadowed(one.market_id, one.as_of) for one in many)
    bench.shadow.offer(many)
    bench.shadow.offer(many)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert wanted == pytest.approx(2000 / ASKED_ONE_IN, rel=0.3)
    assert [len(call) for call in bench.model.calls] == [MAX_AT_ONCE]


async def test_forecasts_of_shadow_models_are_not_offered_to_each_other() -> None:
    bench = Bench("chronos2", "timesfm")
    for name in bench.names:
        bench.shadow.offer([record(number, source=name) for number in range(200)])
    await asyncio.sleep(0)

    assert bench.model.calls == []


def test_unknown_shadow_model_is_refused_with_the_key() -> None:
    config = make_config(routing={"shadow": ("chronoss",)})
    with pytest.raises(ConfigError, match=r"routing\.shadow: chronoss"):
        shadow_models(REGISTRY, config)
