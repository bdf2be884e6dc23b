import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.builders import ROOT
from tsfm_client.series_files import (
    MARKET_NAMES,
    TIME_NAMES,
    VALUE_NAMES,
    PriceFile,
    SeriesFileError,
    read_prices,
)

SAMPLES = ROOT / "tests/data/prices"
ENDED = datetime(2026, 2, 20, 12, tzinfo=UTC)
ENDED_TEXT = "2026-02-20T12:00:00+00:00"
TIMED = {
    "market_id": "m",
    "y": [0.4, 0.5],
    "y_ts": ["2026-02-20T11:45:00+00:00", ENDED_TEXT],
    "freq": "15m",
    "as_of_ts": ENDED_TEXT,
}
UNTIMED = {"market_id": "given", "y": [0.4, 0.5], "as_of_ts": ENDED_TEXT}
NO_ZONE = ["given.csv: the times have no zone; UTC is assumed"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def read(folder: Path, text: str, *, percent: bool = False, name: str = "given.csv") -> PriceFile:
    path = folder / name
    path.write_text(text, "utf-8")
    os.utime(path, (ENDED.timestamp(), ENDED.timestamp()))
    return read_prices(path, percent=percent)


def requests(folder: Path, text: str, points: int = 500) -> list[dict[str, Any]]:
    return read(folder, text).requests(points)


@pytest.mark.parametrize(
    "text",
    [
        "market_id,ts,price\nm,1771587900,0.4\nm,1771588800,0.5\n",
        "market_id,ts,price\nm,1771587900000,0.4\nm,1771588800000,0.5\n",
        "price;market;timestamp\n0.4;m;2026-02-20T11:45Z\n0.5;m;2026-02-20 12:00:00 UTC\n",
        "Market\tTime\tValue\nm\t2026-02-20T12:00Z\t0.5\nm\t2026-02-20T11:45Z\t0.4\n",
        'market,"Date (UTC)","Timestamp (UTC)",Price\nm,x,1771587900,0.4\nm,x,1771588800,0.5\n',
        "TICKER,Date (ms),Yes Price\nm,1771587900000,0.4\nm,1771588800000,0.5\n",
        "id,slug,t,mid,yes_price\n7,m,1771587900,0.1,0.4\n8,m,1771588800,0.2,0.5\n",
        ",m\n2026-02-20 11:45:00+00:00,0.4\n2026-02-20 12:00:00+00:00,0.5\n",
        '[{"market_id":"m","ts":1771587900,"price":0.4},{"market_id":"m","ts":1771588800,"price":"0.5"}]',
        '{"id":"m","ts":1771587900,"y":0.4}\n{"id":"m","ts":1771588800,"y":0.5}\n',
        '{"m": [{"t": 1771587900, "p": 0.4}, {"t": 1771588800, "p": 0.5}]}',
        '{"history": {"m": [{"t": 1771587900, "p": 0.4}, {"t": 1771588800, "p": 0.5}]}}',
    ],
    ids=[
        "commas", "milliseconds", "semicolons", "tabs", "units", "capitals", "preference",
        "index without a name", "rows", "lines", "rows by market", "history by market",
    ],
)  # fmt: skip
def test_rows_with_times_are_one_request_a_market(folder: Path, text: str) -> None:
    found = read(folder, text)

    assert found.requests() == [TIMED]
    assert found.notes == []


@pytest.mark.parametrize(
    "text", ["1771587900,0.4\n1771588800,0.5\n", "t;p\n1771587900;.4\n1771588800;.5"]
)
def test_market_of_a_file_without_markets_is_its_name(folder: Path, text: str) -> None:
    assert requests(folder, text) == [TIMED | {"market_id": "given"}]


def test_console_reads_columns_of_the_same_names() -> None:
    script = (ROOT / "serve_app/console/static/series.js").read_text("utf-8")
    lists = re.findall(r"const (\w+)_NAMES = \[(.*?),\s*\];", script, re.DOTALL)

    assert {kind: tuple(json.loads(f"[{names}]")) for kind, names in lists} == {
        "TIME": TIME_NAMES,
        "VALUE": VALUE_NAMES,
        "MARKET": MARKET_NAMES,
    }


@pytest.mark.parametrize(
    "times",
    [
        ("2026-02-20T11:45", "2026-02-20T12:00"),
        ("2026-02-20 11:45:00", "2026-02-20 12:00:00"),
        ("20260219", "20260220"),
        ("2026-02-19", "2026-02-20"),
    ],
)
def test_times_without_a_zone_are_utc_and_noted(folder: Path, times: tuple[str, str]) -> None:
    found = read(folder, f"date,p\n{times[0]},0.4\n{times[1]},0.5\n")
    [body] = found.requests()

    assert body["as_of_ts"].startswith("2026-02-20T")
    assert body["as_of_ts"].endswith(":00:00+00:00")
    assert found.notes == NO_ZONE


def test_wide_table_is_a_market_for_each_column(folder: Path) -> None:
    a, b = requests(folder, "t,a,b\n1771587900,0.4,\n1771588800,0.5,0.6\n")

    assert a == TIMED | {"market_id": "a"}
    assert b == TIMED | {"market_id": "b", "y": [None, 0.6]}


@pytest.mark.parametrize(
    "text", ["0.4\n0.5\n", "price\n0.4\n0.5\n", "anything\n0.4\n0.5\n", "[0.4, 0.5]", "\n0.4\n0.5"]
)
def test_values_without_times_end_when_the_file_was_changed(folder: Path, text: str) -> None:
    assert requests(folder, text) == [UNTIMED]


def test_values_by_market_are_a_request_each(folder: Path) -> None:
    found = requests(folder, '{"a": [0.4, null], "b": [0.5, 0.6]}')

    assert [(body["market_id"], body["y"]) for body in found] == [
        ("a", [0.4, None]),
        ("b", [0.5, 0.6]),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"market_id":"m","y":[0.4],"new":1}',
        '[{"market_id":"m","y":[0.4],"new":1}]',
        '{"requests":[{"market_id":"m","y":[0.4],"new":1}]}',
        '{"market_id":"m","y":[0.4],"new":1}\n',
    ],
)
def test_requests_are_sent_unchanged(folder: Path, text: str) -> None:
    assert requests(folder, text) == [{"market_id": "m", "y": [0.4], "new": 1}]


def test_two_lines_of_requests_are_two_requests(folder: Path) -> None:
    assert len(requests(folder, '{"y":[0.4]}\n\n{"y":[0.5]}\n')) == 2


def test_newest_values_are_sent_with_gaps_and_the_last_of_two_with_one_time(folder: Path) -> None:
    [body] = requests(folder, "ts,y\n0,0.1\n60,\n120,nan\n180,0.2\n180,0.4\n", points=3)

    assert body["y"] == [None, None, 0.4]
    assert len(body["y_ts"]) == 3


@pytest.mark.parametrize(
    ("name", "markets"),
    [
        ("polymarket_prices_history", {"polymarket_prices_history": [0.615, 0.605, 0.6, 0.625]}),
        ("kalshi_candlesticks", {"KXHIGHNY-26FEB20-B45.5": [0.56, 0.56, None, 0.6125]}),
        ("kalshi_candlesticks_cents", {"KXHIGHNY-26FEB20-B45.5": [0.56, 0.56, None, 0.61]}),
        ("kalshi_candlesticks_historical", {"KXHIGHNY-26FEB20-B45.5": [0.4, 0.4, 0.41, 0.42]}),
        ("kalshi_candlesticks_batch", {"A": [0.56, 0.56], "B": [None, 0.6125]}),
        ("kalshi_event_candlesticks", {"A": [0.56, 0.56], "B": [None, 0.6125]}),
    ],
)
def test_downloads_of_exchanges_are_probabilities_by_market(
    name: str, markets: dict[str, list[float | None]]
) -> None:
    bodies = read_prices(SAMPLES / f"{name}.json").requests()

    assert {body["market_id"]: body["y"] for body in bodies} == {
        market: [None if v is None else pytest.approx(v) for v in values]
        for market, values in markets.items()
    }
    assert all(body["freq"] == "60m" for body in bodies)


def test_candlestick_without_trade_and_orders_is_a_gap(folder: Path) -> None:
    candles = [{"end_period_ts": 0, "price": {"close": 40}}, {"end_period_ts": 60, "price": {}}]

    assert requests(folder, json.dumps(candles))[0]["y"] == [0.4, None]


def test_parquet_without_pandas_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(SeriesFileError, match=r"^a.parquet: Parquet needs pandas and pyarrow"):
        read(folder, "", name="a.parquet")


def test_parquet_is_a_table_with_an_index_or_without(folder: Path) -> None:
    times = pd.to_datetime([1771587900, 1771588800], unit="s", utc=True)
    table = pd.DataFrame({"market": "m", "time": times, "close": [0.4, 0.5]})
    wide = pd.DataFrame({"m": [0.4, 0.5]}, index=times.tz_localize(None))
    for file, frame in (("table.parquet", table), ("wide.parquet", wide)):
        frame.to_parquet(folder / file)

    assert read_prices(folder / "table.parquet").requests() == [TIMED]
    found = read_prices(folder / "wide.parquet")
    assert found.requests() == [TIMED]
    assert found.notes == ["wide.parquet: the times have no zone; UTC is assumed"]


def test_percentages_are_refused_unless_the_caller_says_so(folder: Path) -> None:
    text = "market,ts,price\nm,1771587900,40\nm,1771588800,50\n"

    with pytest.raises(SeriesFileError) as refused:
        read(folder, text)
    assert str(refused.value) == (
        "given.csv: row 1 (line 2), column price: probabilities lie between 0 and 1, and these "
        "seem to be percentages; divide them by 100, or add --percent (percent=True in Python)"
    )
    assert read(folder, text, percent=True).requests() == [TIMED]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.4\n0.5\n", "no value is above 1, so these are no percentages"),
        ('{"y": [40, 50]}', "contains requests, which are sent unchanged"),
    ],
)
def test_percent_is_refused_for_values_that_are_none(folder: Path, text: str, words: str) -> None:
    with pytest.raises(SeriesFileError, match=f"given.csv: {words}; leave out --percent"):
        read(folder, text, percent=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "contains no values"),
        ("ts,price\n", "contains no values"),
        ('{"history": []}', "contains no values"),
        ("when,price\n2026-02-20 10:00,0.4\n", "the column when seems to hold times; call it ts"),
        ("seconds,price\n1771588800,0.4\n", "the column seconds seems to hold times"),
        ("a,b\n1,2\n", "no column of values among a, b; call it price or value"),
        ("ts,what\n0,much\n", "no column of values among ts, what"),
        ("price\n0.4\nmuch\n", "row 2 (line 3), column price: is not a number"),
        ("price\n0.4\ninf\n", "row 2 (line 3), column price: is not finite"),
        ("ts,m\n\n0,0.4\n60,much\n", "row 2 (line 4), column m: is not a number"),
        ("ts,price\nsoon,0.4\n", "row 1 (line 2), column ts: is not a time; write ISO-8601"),
        ("ts,price\n0,0.4\n1e300,0.4\n", "row 2 (line 3), column ts: is not a time"),
        ("market,price\nm,0.4\n,0.4\n", "row 2 (line 3), column market: is empty"),
        ("0.4\n0.5\nx\n", "row 3 (line 3), column price: is not a number"),
        ('[{"t": 0, "p": 0.4}, {"t": 60, "p": {}}]', "row 2, column p: is not a number"),
        ("{,}", "is not JSON (line 1"),
        ('{"a": 1}', "is JSON, but neither values nor requests"),
        ('{"market_tickers":["A"],"market_candlesticks":[1]}', "rows of a market are not a list"),
        ('[{"end_period_ts": 60, "price": {"close": "much"}}]', "could not convert"),
        ("[" * 100_000, "nested too deeply"),
        ('ts,price\n0,"' + "0" * 200_000, "field larger than field limit"),
        ("[[1]]", "row 1: is not a number"),
        ("[0.4, 1e999]", "finite"),
    ],
)
def test_file_without_a_valid_series_is_refused_by_row_and_column(
    folder: Path, text: str, words: str
) -> None:
    with pytest.raises(SeriesFileError) as caught:
        requests(folder, text)

    assert words in str(caught.value)
    assert str(caught.value).startswith("given.csv: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "cannot be read (No such file or directory)"),
        ("odd.csv", b"\xff\xfe\x00", "is not text in UTF-8"),
        ("odd.csv.gz", b"0.4\n", "cannot be read (Not a gzipped file"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00", "is not text in UTF-8"),
        ("no.parquet", b"market_id", "is not a table in Parquet form"),
    ],
)
def test_file_that_cannot_be_read_is_named(
    folder: Path, name: str, content: bytes | None, words: str
) -> None:
    path = folder / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SeriesFileError) as caught:
        read_prices(path)
    assert f"{name}: {words}" in str(caught.value)
