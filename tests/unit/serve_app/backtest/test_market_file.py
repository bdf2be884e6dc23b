from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from serve_app.backtest.market_file import LABELS, LONGEST_GAP_STEPS, Series, series_of
from tests.support.builders import ROOT
from tsfm_client.series_files import SeriesFileError, read_prices

HEAD = "market_id,ts,price"


def load_series(file: Path) -> list[Series]:
    return series_of(read_prices(file, labels=LABELS))


def csv(folder: Path, *rows: str, head: str = HEAD) -> Path:
    file = folder / "prices.csv"
    file.write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return file


def test_rows_of_several_markets_may_be_mixed_and_each_has_its_own_step(tmp_path: Path) -> None:
    rows = ["a,0,0.1", "b,0,0.5", "a,300,0.2", "b,3600,0.6", "a,600,0.3", "b,7200,0.7"]
    a, b = load_series(csv(tmp_path, *rows))

    assert (a.market_id, a.step_s, a.y_prob.tolist()) == ("a", 300, [0.1, 0.2, 0.3])
    assert (b.market_id, b.step_s, b.y_prob.tolist()) == ("b", 3600, [0.5, 0.6, 0.7])


def test_times_may_be_iso_8601(tmp_path: Path) -> None:
    rows = ["a,2026-02-20T12:00:00Z,0.1", "a,2026-02-20T12:05:00Z,0.2"]
    [series] = load_series(csv(tmp_path, *rows))

    assert (series.start_ts, series.step_s) == (1771588800, 300)


def parquet(folder: Path, **columns: object) -> Path:
    file = folder / "prices.parquet"
    pd.DataFrame(columns).to_parquet(file)
    return file


def test_a_parquet_file_reads_as_the_csv_does(tmp_path: Path) -> None:
    times = pd.to_datetime([0, 60, 120], unit="s", utc=True)
    file = parquet(tmp_path, market_id=["a"] * 3, ts=times, price=[0.1, 0.2, 0.3], platform="p")
    [series] = load_series(file)

    assert (series.step_s, series.labels["platform"]) == (60, "p")
    assert series.y_prob.tolist() == [0.1, 0.2, 0.3]


def test_an_empty_cell_of_a_parquet_file_is_no_name(tmp_path: Path) -> None:
    file = parquet(
        tmp_path, market_id=["a", None], ts=[0, 60], price=[0.1, 0.2], event=[None, None]
    )

    with pytest.raises(
        SeriesFileError, match=r"^prices.parquet: row 2, column market_id: is empty"
    ):
        load_series(file)


def test_a_short_gap_is_carried_forward_and_marked(tmp_path: Path) -> None:
    rows = [f"a,{300 * t},0.{t % 9 + 1}" for t in range(40) if t != 7]
    [series] = load_series(csv(tmp_path, *rows))

    assert np.flatnonzero(~series.known).tolist() == [7]
    assert series.y_prob[7] == series.y_prob[6]


def test_a_long_gap_ends_the_series_and_begins_another(tmp_path: Path) -> None:
    late = 30 + LONGEST_GAP_STEPS
    rows = [f"a,{300 * t},0.5" for t in [*range(30), *range(late, late + 5)]]
    first, second = load_series(csv(tmp_path, *rows))

    assert (len(first.y_prob), len(second.y_prob)) == (30, 5)
    assert second.start_ts == 300 * late


@pytest.mark.parametrize(
    ("rows", "row", "column", "why"),
    [
        (["a,0,0.1", "a,300,1.2"], 2, "price", "between 0 and 1"),
        (["a,0,-0.1", "a,300,0.2"], 1, "price", "between 0 and 1"),
        (["a,0,0.1", "a,300,x"], 2, "price", "not a number"),
        (["a,0,0.1", "a,soon,0.2"], 2, "ts", "not a time"),
        (["a,0,0.1", ",300,0.2"], 2, "market_id", "empty"),
        (["a,0,0.1", "b,0,0.1", "a,0,0.2"], 3, "ts", "already has a price"),
        (["a,300,0.1", "b,300,0.1", "a,0,0.2"], 3, "ts", "sort the file by time"),
        ([f"a,{t},0.1" for t in (0, 300, 600, 720, 1020)], 4, "ts", "mixed frequencies: 120 s"),
        (
            [f"a,{t},0.1" for t in (*range(0, 6000, 300), *range(9300, 60000, 3600))],
            21,
            "ts",
            "mixed frequencies: 3600 s",
        ),
    ],
)
def test_a_bad_row_is_one_sentence_with_row_and_column(
    tmp_path: Path, rows: list[str], row: int, column: str, why: str
) -> None:
    with pytest.raises(SeriesFileError, match=why) as refused:
        load_series(csv(tmp_path, *rows))

    message = str(refused.value)
    assert message.startswith(f"prices.csv: row {row} (line {row + 1}), column {column}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("price\n0.1\n0.2\n", "has no times; add a column ts"),
        ('{"y": [0.1, 0.2]}', "contains requests; a backtest needs prices"),
    ],
)
def test_a_file_without_times_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(text, "utf-8")

    with pytest.raises(SeriesFileError, match=f"^prices.csv: {why}"):
        load_series(file)


def test_an_empty_price_is_a_missing_row(tmp_path: Path) -> None:
    [series] = load_series(csv(tmp_path, "a,0,0.1", "a,300,", "a,600,0.3", "a,900,0.4"))

    assert series.y_prob.tolist() == [0.1, 0.1, 0.3, 0.4]
    assert series.known.tolist() == [True, False, True, True]


def test_last_row_before_its_step_is_complete_is_left_out(tmp_path: Path) -> None:
    [series] = load_series(csv(tmp_path, "a,0,0.1", "a,300,0.2", "a,600,0.3", "a,700,0.4"))

    assert series.y_prob.tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("late_s", [(7, 9, 2, 30, 0), (0, 0, 0, 12, 12)])
def test_times_some_seconds_late_are_on_the_grid(tmp_path: Path, late_s: tuple[int, ...]) -> None:
    rows = [f"a,{3600 * i + late},0.{i + 1}" for i, late in enumerate(late_s)]
    [series] = load_series(csv(tmp_path, *rows))

    assert series.step_s == 3600
    assert series.known.all()
    assert series.y_prob.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_of_two_late_times_on_one_step_the_newest_counts(tmp_path: Path) -> None:
    times = [*range(0, 10000, 1000), 10090, 11180, 12270, 13360, 14450, 15540, 16450, 17450]
    rows = [f"a,{t},{i / 100}" for i, t in enumerate(times)]
    [series] = load_series(csv(tmp_path, *rows))

    assert series.y_prob.tolist()[14:] == [0.14, 0.14, 0.16, 0.17]


@pytest.mark.parametrize(
    ("name", "y_prob"),
    [
        ("polymarket_prices_history", [0.615, 0.605, 0.6, 0.625]),
        ("kalshi_candlesticks", [0.56, 0.56, 0.56, 0.6125]),
    ],
)
def test_downloads_of_exchanges_are_series(name: str, y_prob: list[float]) -> None:
    [series] = load_series(ROOT / "tests/data/prices" / f"{name}.json")

    assert series.step_s == 3600
    assert series.y_prob.tolist() == pytest.approx(y_prob)


@pytest.mark.parametrize("rows", [["a,0,0.1"], ["a,0,", "a,300,0.1"]])
def test_a_market_with_one_price_is_left_out(tmp_path: Path, rows: list[str]) -> None:
    assert load_series(csv(tmp_path, *rows)) == []
