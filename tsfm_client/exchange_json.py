"""Finds the rows of prices in JSON: as Polymarket and Kalshi send them, or as people write them.

    Polymarket  GET /prices-history: {"history": [{"t": ..., "p": ...}]}, or rows by token
    Kalshi      GET .../candlesticks: {"ticker": ..., "candlesticks": [...]}, {"markets": [...]}
                with one of these each, or {"market_tickers": [...], "market_candlesticks": [[...]]}

The price of a candlestick is its last trade, else the middle of bid and ask at its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rows = tuple[str | None, Sequence[Any]]  # the market, if it is named; rows or numbers


def price_tables(value: Any) -> Iterator[Rows]:
    """The rows or numbers of each market.

    Raises:
        ValueError: there are none.
    """
    match value:
        case {"market_tickers": list(names), "market_candlesticks": list(series)}:
            yield from zip(names, map(_rows, series), strict=False)
        case {"markets": [{"candlesticks": _}, *_] as markets}:
            for one in markets:
                yield from price_tables(one)
        case {"candlesticks": list(rows)}:
            yield value.get("ticker") or value.get("market_ticker"), _rows(rows)
        case {"history": [dict(), *_] as rows}:
            yield None, rows
        case {"history": dict(by_token)}:
            yield from _by_market(by_token)
        case list(rows):
            yield None, _rows(rows)
        case _:
            yield from _by_market(value)


def _by_market(value: Any) -> Iterator[Rows]:
    if not isinstance(value, dict) or not all(isinstance(rows, list) for rows in value.values()):
        raise ValueError("is JSON, but neither values nor requests")
    for name, rows in value.items():
        yield name, _rows(rows)


def _rows(rows: Any) -> Sequence[Any]:
    if not isinstance(rows, list):
        raise ValueError("is JSON, but the rows of a market are not a list")
    return [_candlestick(row) if _is_candlestick(row) else row for row in rows]


def _is_candlestick(row: Any) -> bool:
    if not isinstance(row, dict) or "end_period_ts" not in row:
        return False
    return any(isinstance(row.get(name), dict) for name in ("price", "yes_bid", "yes_ask"))


def _candlestick(row: Mapping[str, Any]) -> dict[str, Any]:
    price = _close(row.get("price"))
    bid, ask = _close(row.get("yes_bid")), _close(row.get("yes_ask"))
    has_orders = (bid, ask) != (0.0, 1.0)  # what Kalshi sends for an empty order book
    if price is None and bid is not None and ask is not None and has_orders:
        price = (bid + ask) / 2
    return {"end_period_ts": row["end_period_ts"], "price": price}


def _close(quotes: Any) -> float | None:
    """In dollars. ``close`` is in cents if it is a number, in dollars if it is a text."""
    if not isinstance(quotes, dict):
        return None
    dollars, close = quotes.get("close_dollars"), quotes.get("close")
    if dollars is None and isinstance(close, int | float):
        return close / 100
    text = close if dollars is None else dollars
    return None if text is None else float(str(text))
