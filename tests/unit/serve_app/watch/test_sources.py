"""Sources against a server that replays what exchanges send, with its errors and limits."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serve_app.watch.quotes import Quotes, Reading, SourceError, window_of
from serve_app.watch.sources import NAMES, named, polite
from serve_app.watch.sources.exchanges import Kalshi, Manifold, Polymarket
from serve_app.watch.sources.files import Files, JsonUrl
from serve_app.watch.sources.polite import PoliteHttp
from serve_app.watch.sources.replay import MARKETS, Replay
from tests.support.virtual_time import run_virtual

DATA = Path(__file__).parents[3] / "data/prices"
NOW = 1_771_600_000.0
DAY_S = 86_400.0


def recorded(name: str) -> Any:
    return json.loads((DATA / name).read_text())


class Server:
    """Answers each path with a recorded answer; others can be put before it."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {f"/{path.replace('__', '/')}": value for path, value in answers.items()}
        self.before: dict[str, list[httpx.Response | Exception]] = {}
        self.asked: list[httpx.Request] = []
        client = httpx.AsyncClient(
            base_url="http://exchange.test", transport=httpx.MockTransport(self._answer)
        )
        self.http = PoliteHttp(client, pause_s=0.0)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path
        if waiting := self.before.get(path):
            first = waiting.pop(0)
            if isinstance(first, Exception):
                raise first
            return first
        value = self.answers[path]
        return value(request) if callable(value) else httpx.Response(200, json=value)

    def paths(self) -> Counter[str]:
        return Counter(request.url.path for request in self.asked)


def polymarket(**options: Any) -> tuple[Server, Polymarket]:
    server = Server(
        markets=recorded("polymarket_markets.json"),
        **{"prices-history": recorded("polymarket_prices_history.json")},
    )
    return server, Polymarket(server.http, options.get("markets", ()), 3, DAY_S)


def kalshi(**options: Any) -> tuple[Server, Kalshi]:
    def candles(request: httpx.Request) -> httpx.Response:
        ticker = request.url.params["market_tickers"]
        batch = recorded("kalshi_candlesticks_batch.json")["markets"]
        found = [one for one in batch if one["market_ticker"] == ticker]
        return httpx.Response(200, json={"markets": found or [{**batch[0], "candlesticks": []}]})

    server = Server(markets=recorded("kalshi_markets.json"), markets__candlesticks=candles)
    return server, Kalshi(server.http, options.get("markets", ()), 2, DAY_S)


def manifold(**options: Any) -> tuple[Server, Manifold]:
    markets = recorded("manifold_search_markets.json")
    server = Server(
        **{"search-markets": markets, "bets": recorded("manifold_bets.json")},
        **{"slug__will-it-snow": markets[0]},
    )
    return server, Manifold(server.http, options.get("markets", ()), 3, DAY_S)


def by_id(reading: Reading) -> dict[str, Quotes]:
    return {one.market_id: one for one in reading.quotes}


async def test_polymarket_prices_are_those_of_the_first_outcome() -> None:
    server, source = polymarket()

    found = by_id(await source.read(NOW))

    assert set(found) == {"rain-in-new-york", "launch-on-time"}
    rain = found["rain-in-new-york"]
    assert (rain.title, rain.volume) == ("Will it rain in New York tomorrow?", 9000.25)
    assert rain.prices == [0.615, 0.605, 0.6, 0.625]
    assert rain.times[0] == 1771588807
    assert window_of(found["launch-on-time"], NOW, 300, 10) == "it is closed"
    listed, prices, *_ = server.asked
    assert dict(listed.url.params) == {
        "limit": "3", "order": "volume24hr", "ascending": "false", "closed": "false",
    }  # fmt: skip
    assert prices.url.params["market"] == "7001"
    assert prices.url.params["startTs"] == str(int(NOW - DAY_S))


async def test_kalshi_markets_are_sorted_by_volume_and_prices_are_probabilities() -> None:
    _, source = kalshi()

    reading = await source.read(NOW)

    assert [one.market_id for one in reading.quotes] == ["A", "B"]
    assert by_id(reading)["A"].volume == 900.0
    assert by_id(reading)["A"].prices[0] == 0.56
    assert all(0 <= price <= 1 for one in reading.quotes for price in one.prices)


async def test_manifold_prices_are_the_probabilities_after_bets() -> None:
    _, source = manifold()

    (snow,) = (await source.read(NOW)).quotes

    assert (snow.market_id, snow.title, snow.volume) == ("will-it-snow", "Will it snow?", 300.25)
    assert list(zip(snow.times, snow.prices, strict=True)) == [
        (1771592000.5, 0.31),
        (1771590000.0, 0.3),
    ]


@pytest.mark.parametrize(
    ("make", "known"),
    [(polymarket, "rain-in-new-york"), (kalshi, "A"), (manifold, "will-it-snow")],
)
async def test_wanted_market_that_the_exchange_does_not_list_is_said(
    make: Callable[..., tuple[Server, Any]], known: str
) -> None:
    server, source = make(markets=(known, "unheard-of"))
    server.answers["/slug/unheard-of"] = lambda _: httpx.Response(404)

    reading = await source.read(NOW)

    assert known in by_id(reading)
    assert reading.skipped == {"unheard-of": "the exchange does not list it"}


BAD_ANSWERS = [
    httpx.Response(404),
    httpx.Response(200, text="<html>"),
    httpx.Response(200, text='{"history": [{"t": 1'),
    httpx.Response(200, json={"history": [{"t": "soon", "p": 0.5}]}),
    httpx.Response(200, json={"error": "no"}),
    httpx.Response(200, json=[]),
    httpx.Response(200, text='{"history": [{"t": 1%s, "p": 0.5}]}' % ("0" * 400)),
    httpx.Response(200, text="[" * 100_000),
]


@pytest.mark.parametrize("answer", BAD_ANSWERS)
async def test_market_with_a_bad_answer_is_skipped_and_the_others_are_read(
    answer: httpx.Response,
) -> None:
    server, source = polymarket()
    server.before["/prices-history"] = [answer]

    reading = await source.read(NOW)

    assert set(by_id(reading)) == {"launch-on-time"}
    assert set(reading.skipped) == {"rain-in-new-york"}
    assert "<html>" not in reading.skipped["rain-in-new-york"]


@pytest.mark.parametrize("answer", [*BAD_ANSWERS[:3], httpx.Response(200, json={"a": 1})])
async def test_source_whose_list_is_bad_has_no_cycle(answer: httpx.Response) -> None:
    server, source = polymarket()
    server.before["/markets"] = [answer]

    with pytest.raises(SourceError):
        await source.read(NOW)


def again(status: int, seconds: str = "2") -> httpx.Response:
    return httpx.Response(status, headers={"retry-after": seconds})


@pytest.mark.parametrize(
    ("first", "waited_s"),
    [
        ([again(429)], 2.0),
        ([again(503), again(500)], 4.0),
        ([httpx.Response(502)], 1.0),
        ([httpx.Response(503, headers=[(b"retry-after", b"\xb2")])], 1.0),  # a superscript two
        ([httpx.ConnectError("refused"), httpx.ReadTimeout("slow")], 3.0),
    ],
)
def test_busy_server_is_asked_again_after_the_time_that_it_wants(
    first: list[Any], waited_s: float
) -> None:
    server = Server(x=[1])
    server.before["/x"] = first

    async def ask() -> tuple[Any, float]:
        return await server.http.get_json("/x"), asyncio.get_running_loop().time()

    value, at = run_virtual(ask())

    assert value == [1]
    assert at == pytest.approx(waited_s)


@pytest.mark.parametrize(
    "first", [[again(429, "3600")], [httpx.Response(500)] * 3, [httpx.Response(403)]]
)
def test_server_that_stays_busy_is_left_alone(first: list[Any]) -> None:
    server = Server(x=[1])
    server.before["/x"] = list(first)

    async def ask() -> Any:
        return await server.http.get_json("/x", token="secret")

    with pytest.raises(SourceError, match=r"exchange.test: status \d+$"):
        run_virtual(ask())
    assert len(server.asked) == len(first)


async def test_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polite, "MOST_BYTES", 1000)
    server = Server(x=["a" * 2000])

    with pytest.raises(SourceError, match="its answer is over"):
        await server.http.get_json("/x")


async def test_answer_that_has_not_changed_is_not_sent_again() -> None:
    server = Server(x=lambda _: httpx.Response(200, json=[1], headers={"etag": '"v1"'}))
    first = await server.http.get_json("/x")
    server.before["/x"] = [httpx.Response(304)]

    assert await server.http.get_json("/x") == first == [1]
    assert server.asked[1].headers["if-none-match"] == '"v1"'
    assert server.asked[0].headers["user-agent"].startswith("tsfm-watch/")


def test_requests_leave_one_after_the_other() -> None:
    server = Server(x=[1])
    server.http._pause_s = 0.5

    async def ask() -> float:
        await asyncio.gather(*(server.http.get_json("/x") for _ in range(4)))
        return asyncio.get_running_loop().time()

    assert run_virtual(ask()) == pytest.approx(1.5)


async def test_files_of_a_folder_are_read_again_in_each_cycle(tmp_path: Path) -> None:
    rows = "ts,price\n" + "".join(f"{NOW - 300 * i:.0f},0.4\n" for i in range(5, 0, -1))
    (tmp_path / "rain.csv").write_text(rows)
    (tmp_path / "broken.csv").write_text("ts,price\nsoon,0.4\n")
    (tmp_path / "notes.txt").write_text("no prices")
    source = Files(tmp_path)
    first = await source.read(NOW)
    (tmp_path / "rain.csv").write_text(rows + f"{NOW:.0f},0.7\n")

    second = await source.read(NOW)

    assert len(by_id(first)["rain"].prices) == 5
    assert by_id(second)["rain"].prices[-1] == 0.7
    assert set(second.skipped) == {"broken.csv"}
    assert "row 1" in second.skipped["broken.csv"]


async def test_folder_without_files_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no file of prices"):
        await Files(tmp_path).read(NOW)


async def test_fields_of_any_json_are_named_by_the_caller() -> None:
    rows = [
        {"slug": "rain", "updated": NOW - 300, "lastPrice": 0.4},
        {"slug": "rain", "updated": NOW, "lastPrice": 0.5},
        {"slug": "snow", "updated": NOW, "lastPrice": None},
    ]
    server = Server(prices=rows)
    columns = {"ts": "updated", "price": "lastPrice"}

    reading = await JsonUrl(server.http, "http://exchange.test/prices", columns).read(NOW)

    assert by_id(reading)["rain"].prices == (0.4, 0.5)
    assert reading.skipped == {"snow": "it has no prices with times"}


@pytest.mark.parametrize("value", [{}, [], {"a": 1}, "text"])
async def test_json_without_prices_is_no_reading(value: Any) -> None:
    server = Server(prices=value)

    with pytest.raises(SourceError):
        await JsonUrl(server.http, "http://exchange.test/prices", {}).read(NOW)


async def test_replayed_markets_have_the_same_past_in_each_cycle_and_jump_in_turn() -> None:
    first, later = await Replay().read(NOW), await Replay().read(NOW + 300)

    assert len(first.quotes) == MARKETS
    for one, other in zip(first.quotes, later.quotes, strict=True):
        assert one.prices[1:] == other.prices[:-1]
    jumps = [abs(np.diff(one.prices)).max() for one in first.quotes]
    assert min(jumps) > 0.1


def test_source_is_found_by_its_name(tmp_path: Path) -> None:
    names = (*NAMES, "https://a.test/x", str(tmp_path))
    found = [type(named(name, (), 5, DAY_S)) for name in names]

    assert found == [Replay, Polymarket, Kalshi, Manifold, JsonUrl, Files]
    with pytest.raises(ValueError, match="is no file, no URL, and none of replay, polymarket"):
        named("unheard-of", (), 5, DAY_S)
    with pytest.raises(ValueError, match="is no URL"):
        named("http://a:port/x", (), 5, DAY_S)


@pytest.mark.parametrize("cycle", range(0, 120, 7))
async def test_in_each_cycle_of_the_replay_one_market_jumps(cycle: int) -> None:
    """So the first try of the README shows an alert."""
    reading = await Replay().read(NOW + cycle * 300)

    assert sum(abs(one.prices[-1] - one.prices[-2]) > 0.25 for one in reading.quotes) == 1
