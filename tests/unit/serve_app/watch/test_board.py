"""The markets of a cycle on the service's board: what is sent, and that a failure ends nothing."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import orjson
import pytest

from serve_app.http.board_endpoint import BoardsAnswer
from serve_app.watch.board import SHOWN_STEPS, board_name
from serve_app.watch.cycle import Plan
from serve_app.watch.metrics import WatchMetrics
from serve_app.watch.watcher import Watcher
from tests.support.bench import Bench
from tests.unit.serve_app.watch.test_cycle import NOW, PLAN, STEP_S, FakeSource, Watch
from tsfm_client import AsyncClient


def watcher_of(watch: Watch, now: float = NOW, plan: Plan = PLAN, **changes: Any) -> Watcher:
    settings: dict[str, Any] = {"receivers": ("lines",), "metrics": WatchMetrics(), "board": "mine"}
    return Watcher(
        watch.source, watch.client, watch.journal, plan, clock=lambda: now, **settings | changes
    )


async def shown(watch: Watch, bench: Bench, **how: Any) -> Any:
    watcher = watcher_of(watch, **how)
    await watcher.show_on_board(await watcher.cycle())
    return orjson.loads(bench.boards.kept["mine"]) if bench.boards.kept else None


async def test_board_shows_every_checked_market_with_its_prices_and_check(bench: Bench) -> None:
    source = FakeSource(calm=[0.45], up=[0.95])
    source.options["up"] = {"title": "Will it go up?"}
    board = await shown(Watch(bench, source), bench)

    markets = {one["answer"]["market_id"]: one for one in board["markets"]}
    assert set(markets) == {"calm", "up"}
    up = markets["up"]
    assert (up["title"], up["newest_steps"]) == ("Will it go up?", 1)
    assert up["y"][-3:] == [0.44, 0.45, 0.95]
    assert up["answer"]["check"]["breach"] == "above"
    BoardsAnswer.model_validate({"version": "1", "boards": [board]})


async def test_alert_that_lasts_is_shown_against_the_band_before_it(bench: Bench) -> None:
    watch = Watch(bench, FakeSource(up=[0.95]))
    for step in range(3):
        watch.source.newest["up"] = [0.95] * (step + 1)
        board = await shown(watch, bench, now=NOW + step * STEP_S)
        assert board["markets"][0]["newest_steps"] == step + 1


async def test_missing_prices_and_long_series_are_cut_to_what_is_shown(bench: Bench) -> None:
    class LongSource(FakeSource):
        async def read(self, now: float) -> Any:
            reading = await super().read(now)
            (quotes,) = reading.quotes
            times = [now // STEP_S * STEP_S - STEP_S * back for back in range(400) if back != 5]
            reading.quotes[0] = type(quotes)("m", times, [0.123456] * len(times))
            return reading

    board = await shown(
        Watch(bench, LongSource(m=[0.4])), bench, plan=Plan("5m", STEP_S, 400, PLAN.rule)
    )
    prices = board["markets"][0]["y"]
    assert (len(prices), prices[-6], prices[-1]) == (SHOWN_STEPS, None, 0.1235)


async def test_a_board_that_cannot_be_written_does_not_end_the_watch(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class OddClient(AsyncClient):
        async def show_board(self, watch: str, board: Any) -> int:
            raise TypeError("no JSON")

    watch = Watch(bench, FakeSource(up=[0.95]))
    checked = await watcher_of(watch).cycle()
    await replace(watcher_of(watch), client=OddClient("http://test")).show_on_board(checked)

    assert "The board does not show this cycle." in caplog.text


@pytest.mark.parametrize("how", [{"board": None}, {"now": NOW - 10 * STEP_S * 40}])
async def test_without_a_name_or_a_check_no_board_is_sent(bench: Bench, how: Any) -> None:
    watch = Watch(bench, FakeSource())
    assert await shown(watch, bench, **how) is None


async def test_board_that_cannot_be_kept_is_said_and_ends_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.boards.gone = True
    with caplog.at_level(logging.WARNING):
        assert await shown(Watch(bench, FakeSource(up=[0.95])), bench) is None
    assert "The board does not show this cycle" in caplog.text


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("polymarket", "polymarket"),
        ("prices/", "prices"),
        ("/data/my prices.csv", "my-prices.csv"),
        ("https://example.com/a/prices?key=secret", "prices"),
        ("https://example.com/?key=secret", "watch"),
        ("ü", "-"),
        ("my watch é", "my-watch-"),
    ],
)
def test_board_is_named_after_the_source_without_secrets(source: str, name: str) -> None:
    assert board_name(source) == name


async def test_every_cycle_of_a_running_watch_is_sent(bench: Bench) -> None:
    watcher = watcher_of(Watch(bench, FakeSource(calm=[0.45])))
    running = asyncio.create_task(watcher.run(lambda _: None))
    async with asyncio.timeout(5):
        await bench.boards.came.wait()
    running.cancel()

    assert [*bench.boards.kept] == ["mine"]
