"""Public prices of exchanges, without a key. `tests/data/prices` has answers and their origin.

    Polymarket  Gamma `GET /markets` lists markets by volume; CLOB `GET /prices-history` has the
                prices of a token: the middle of bid and ask, one a minute or coarser
    Kalshi      `GET /markets`, and `GET /markets/candlesticks`: the last
                trade of each minute, else the middle of bid and ask
    Manifold    `GET /search-markets`, and `GET /bets` of a market: the probability after each bet

A market whose answer is not as documented is skipped.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from serve_app.watch.quotes import Quotes, Reading, SourceError
from serve_app.watch.sources.polite import PoliteHttp
from tsfm_client.exchange_json import price_tables

_WRONG = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
_NOT_AS_DOCUMENTED = "its answer is not as documented"


class _Exchange:
    """Lists the wanted markets, then reads the prices of each."""

    BASE_URL: ClassVar[str]

    def __init__(
        self, http: PoliteHttp, markets: Sequence[str], top: int, history_s: float
    ) -> None:
        self._http, self._markets, self._top, self._history_s = http, markets, top, history_s

    async def read(self, now: float) -> Reading:
        """The prices of the wanted markets; one that cannot be read is skipped."""
        try:
            listed = await self._listed()
        except _WRONG as exc:
            raise SourceError(_NOT_AS_DOCUMENTED) from exc
        reading = Reading(skipped=dict.fromkeys(self._markets, "the exchange does not list it"))
        for market in listed:
            name = market["id"]
            reading.skipped.pop(name, None)
            try:
                pairs = await self._prices(market, now - self._history_s, now)
            except SourceError as exc:
                reading.skipped[name] = str(exc)
            except _WRONG:
                reading.skipped[name] = _NOT_AS_DOCUMENTED
            else:
                times, prices = [t for t, _ in pairs], [p for _, p in pairs]
                about = {key: market[key] for key in ("title", "volume", "is_closed")}
                reading.quotes.append(Quotes(name, times, prices, **about))
        return reading

    async def _listed(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def _prices(
        self, market: dict[str, Any], start: float, end: float
    ) -> list[tuple[float, float]]:
        raise NotImplementedError


class Polymarket(_Exchange):
    """Markets by their slug; prices of the first outcome."""

    BASE_URL = "https://gamma-api.polymarket.com"
    PRICES_URL = "https://clob.polymarket.com"
    FIDELITY_MINUTES = 1

    async def _listed(self) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"order": "volume24hr", "ascending": "false", "closed": "false"}
        if self._markets:
            wanted = {"slug": list(self._markets)}
        limit = len(self._markets) or self._top
        found = await self._http.get_json("/markets", limit=limit, **wanted)
        return [
            {
                "id": one["slug"],
                "title": one["question"],
                "volume": one.get("volume24hr"),
                "is_closed": bool(one.get("closed")),
                "token": json.loads(one["clobTokenIds"])[0],
            }
            for one in found
            if one.get("clobTokenIds")
        ]

    async def _prices(
        self, market: dict[str, Any], start: float, end: float
    ) -> list[tuple[float, float]]:
        base = "" if self._http.is_elsewhere(self.BASE_URL) else self.PRICES_URL
        found = await self._http.get_json(
            f"{base}/prices-history",
            market=market["token"],
            startTs=int(start),
            endTs=int(end),
            fidelity=self.FIDELITY_MINUTES,
        )
        return [(float(row["t"]), float(row["p"])) for row in found["history"]]


class Kalshi(_Exchange):
    """Markets by their ticker; prices of Yes."""

    BASE_URL = "https://external-api.kalshi.com/trade-api/v2"
    MINUTES = 1  # of a candlestick

    async def _listed(self) -> list[dict[str, Any]]:
        wanted: dict[str, Any] = {"status": "open", "limit": 1000}
        if self._markets:
            wanted = {"tickers": ",".join(self._markets)}
        found = (await self._http.get_json("/markets", **wanted))["markets"]
        by_volume = sorted(found, key=_kalshi_volume, reverse=True)
        return [
            {
                "id": one["ticker"],
                "title": one.get("title"),
                "volume": _kalshi_volume(one),
                "is_closed": one.get("status") not in ("active", "open"),
            }
            for one in by_volume[: len(self._markets) or self._top]
        ]

    async def _prices(
        self, market: dict[str, Any], start: float, end: float
    ) -> list[tuple[float, float]]:
        found = await self._http.get_json(
            "/markets/candlesticks",
            market_tickers=market["id"],
            start_ts=int(start),
            end_ts=int(end),
            period_interval=self.MINUTES,
        )
        pairs = []
        for _, rows in price_tables(found):
            for row in rows:
                if row["price"] is not None:
                    pairs.append((float(row["end_period_ts"]), row["price"]))
        return pairs


class Manifold(_Exchange):
    """Markets by their slug; the probability after each bet."""

    BASE_URL = "https://api.manifold.markets/v0"
    MOST_BETS = 1000

    async def _listed(self) -> list[dict[str, Any]]:
        if self._markets:
            found = []
            for slug in self._markets:
                with suppress(SourceError):  # the others are read all the same
                    found.append(await self._http.get_json(f"/slug/{slug}"))
        else:
            found = await self._http.get_json(
                "/search-markets",
                sort="24-hour-vol",
                filter="open",
                contractType="BINARY",
                limit=self._top,
            )
        return [
            {
                "id": one["slug"],
                "title": one["question"],
                "volume": one.get("volume24Hours"),
                "is_closed": bool(one.get("isResolved")),
                "contract": one["id"],
                "probability": one.get("probability"),
            }
            for one in found
        ]

    async def _prices(
        self, market: dict[str, Any], start: float, end: float
    ) -> list[tuple[float, float]]:
        bets = await self._http.get_json(
            "/bets", contractId=market["contract"], limit=self.MOST_BETS, order="desc"
        )
        return [
            (bet["createdTime"] / 1e3, float(bet["probAfter"]))
            for bet in bets
            if bet.get("probAfter") is not None and bet["createdTime"] / 1e3 >= start
        ]


def _kalshi_volume(market: dict[str, Any]) -> float:
    """Contracts of the last 24 hours: a number, or a text where it has decimals."""
    return float(market.get("volume_24h_fp") or market.get("volume_24h") or 0.0)
