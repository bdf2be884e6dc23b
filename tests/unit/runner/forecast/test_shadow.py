"""Models are asked for a part of what they did not answer, and kept like the others."""

import asyncio
from typing import Any

import numpy as np
import pytest

from runner.calibration.coverage import ForecastRecord
from runner.calibration.skill import Paired
from runner.config.registry import shadow_models
from runner.errors import ConfigError
from runner.forecast.shadow import ASKED_ONE_IN, MAX_AT_ONCE, Shadow, is_shadowed
from runner.types import FallbackReason, Priority
from tests.support.builders import make_answer, make_bands, make_config
from tests.support.learning import make_paired, make_seen
from tests.unit.runner.forecast.forecasters import REGISTRY, FakeModel, failure

SHADOW, ROUTED = "chronos2", "fracast-0"
SEGMENT = "activity=some|price=middle|freq=5m"  # of the records here


class Bench:
    """Shadow models with a fake behind them, and the records that were kept."""

    def __init__(self, *names: str) -> None:
        self.model = FakeModel()
        self.model.outcome = make_answer(bands=make_bands(3))
        self.kept: list[ForecastRecord] = []
        config = make_config(routing={"shadow": names})
        self.known: dict[tuple[str, str], Paired] = {(ROUTED, SEGMENT): make_paired(2.0, 60)}
        self.shadow = Shadow(REGISTRY, self.model, config, self.kept.append, lambda: self.known)

    async def offer(self, *records: ForecastRecord) -> list[tuple[str, int]]:
        """Which model was asked for how many."""
        self.shadow.offer(records)
        for _ in range(9):
            await asyncio.sleep(0)
        return [(call[0].key.model, len(call)) for call in self.model.calls]


def record(number: int = 0, points: int = 60, **changes: Any) -> ForecastRecord:
    return make_seen(0, *[0.5] * points, market=f"m-{number}", **{"source": ROUTED, **changes})


def sampled(number: int = 0, points: int = 60, **changes: Any) -> ForecastRecord:
    """The first record from this number on that is in the sample."""
    one = record(number, points, **changes)
    is_in = is_shadowed(one.market_id, one.as_of)
    return one if is_in else sampled(number + 1, points, **changes)


async def test_a_record_is_asked_for_and_kept_under_the_models_name() -> None:
    bench = Bench(SHADOW)
    prices = np.array([np.nan, 0.4, np.nan, *[0.5] * 60])
    gap = sampled(observed_prob=prices, thresholds=(0.5,), above=np.full((3, 1), 0.4))
    assert await bench.offer(gap) == [(SHADOW, 1)]

    (asked,), (kept,) = bench.model.calls[0], bench.kept
    assert asked.key.horizon_steps == 3
    assert (asked.priority, asked.end_ts) == (Priority.BULK, gap.as_of)
    assert asked.y_prob[:4].tolist() == [0.4, 0.4, 0.4, 0.5]
    assert (kept.source, kept.market_id) == (SHADOW, gap.market_id)
    assert kept.bands.y_prob.tolist() == make_bands(3).y_prob.tolist()
    assert (kept.thresholds, kept.above) == ((0.5,), None)


async def test_model_that_lost_its_markets_is_asked_in_the_background() -> None:
    bench = Bench()
    routed = sampled(source="ewma", routed_from=ROUTED)
    other = sampled(1000, source="ewma")

    assert await bench.offer(routed, other) == [(ROUTED, 1)]
    assert [(one.source, one.routed_from) for one in bench.kept] == [(ROUTED, None)]


async def test_routed_segment_of_which_little_is_known_is_asked_for_each_time() -> None:
    bench = Bench()
    routed = [record(number, source="ewma", routed_from=ROUTED) for number in range(60)]
    few = sum(is_shadowed(one.market_id, one.as_of) for one in routed)
    assert await bench.offer(*routed) == [(ROUTED, few)]

    bench.known = {(ROUTED, SEGMENT): make_paired(2.0, 19)}
    assert await bench.offer(*routed) == [(ROUTED, few), (ROUTED, 60)]


async def test_a_model_is_not_asked_for_what_it_answered_nor_for_another_shadow() -> None:
    bench = Bench(SHADOW, ROUTED)
    await bench.offer(sampled())

    assert await bench.offer(*bench.kept) == [(SHADOW, 1)]


async def test_no_model_is_called_without_a_series_that_suits_it() -> None:
    assert await Bench(SHADOW).offer(sampled(points=10)) == []


@pytest.mark.parametrize(
    "unfit", [{"points": 10}, {"levels": (0.0123, 0.5, 0.9)}], ids=["short", "levels"]
)
async def test_series_that_do_not_suit_and_failures_are_left_out(unfit: dict[str, Any]) -> None:
    bench = Bench("timesfm")
    bench.model.outcome = failure(FallbackReason.RUNTIME_ERROR)

    assert await bench.offer(sampled(**unfit), sampled(1000)) == [("timesfm-2.5-200m", 1)]
    assert bench.kept == []


@pytest.mark.parametrize(
    ("reason", "lines"),
    [(FallbackReason.MODEL_NOT_INSTALLED, 1), (FallbackReason.RUNTIME_ERROR, 0)],
)
async def test_model_that_is_not_installed_is_logged_once(
    reason: FallbackReason, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(SHADOW)
    bench.model.outcome = failure(reason)
    await bench.offer(sampled(), sampled(1000))
    await bench.offer(sampled(2000))

    assert [SHADOW in text for text in caplog.messages] == [True] * lines


async def test_only_a_sample_is_asked_at_most_so_many_and_one_set_at_a_time() -> None:
    bench = Bench(SHADOW)
    many = [record(number) for number in range(2000)]
    wanted = sum(is_shadowed(one.market_id, one.as_of) for one in many)
    bench.shadow.offer(many)

    assert await bench.offer(*many) == [(SHADOW, MAX_AT_ONCE)]
    assert wanted == pytest.approx(2000 / ASKED_ONE_IN, rel=0.3)


async def test_nothing_is_asked_without_shadow_models_and_routed_markets() -> None:
    assert await Bench().offer(sampled()) == []


def test_unknown_shadow_model_is_refused_with_the_key() -> None:
    config = make_config(routing={"shadow": ("chronoss",)})
    with pytest.raises(ConfigError, match=r"routing\.shadow: chronoss"):
        shadow_models(REGISTRY, config)
