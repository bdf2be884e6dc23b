from datetime import UTC, datetime
from pathlib import Path

import pytest

from tsfm_client.series_files import SeriesFileError, Source, read_source, requests_of

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


def source(text: str, points: int = 1000) -> Source:
    return Source("given.csv", text, ENDED, points)


@pytest.mark.parametrize(
    "text",
    [
        "market_id,ts,price\nm,1771587900,0.4\nm,1771588800,0.5\n",
        "price;market;timestamp\n0.4;m;2026-02-20T11:45Z\n0.5;m;2026-02-20 12:00:00\n",
        "Market\tTime\tValue\nm\t2026-02-20T12:00Z\t0.5\nm\t2026-02-20T11:45Z\t0.4\n",
        'market,"Date (UTC)","Timestamp (UTC)",Price\nm,x,1771587900,0.4\nm,x,1771588800,0.5\n',
        '[{"market_id":"m","ts":1771587900,"price":0.4},{"market_id":"m","ts":1771588800,"price":"0.5"}]',
        '{"id":"m","ts":1771587900,"y":0.4}\n{"id":"m","ts":1771588800,"y":0.5}\n',
    ],
    ids=["commas", "semicolons", "tabs", "units", "rows", "lines"],
)
def test_rows_with_times_are_one_request_a_market(text: str) -> None:
    assert requests_of(source(text)) == [TIMED]


@pytest.mark.parametrize(
    "text", ["0.4\n0.5\n", "price\n0.4\n0.5\n", "anything\n0.4\n0.5\n", "[0.4, 0.5]", "\n0.4\n0.5"]
)
def test_values_without_times_end_when_the_file_was_changed(text: str) -> None:
    assert requests_of(source(text)) == [UNTIMED]


def test_values_by_market_are_a_request_each() -> None:
    found = requests_of(source('{"a": [0.4, null], "b": [0.5, 0.6]}'))

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
def test_requests_are_sent_unchanged(text: str) -> None:
    assert requests_of(source(text)) == [{"market_id": "m", "y": [0.4], "new": 1}]


def test_two_lines_of_requests_are_two_requests() -> None:
    assert len(requests_of(source('{"y":[0.4]}\n\n{"y":[0.5]}\n'))) == 2


def test_newest_values_are_sent_with_gaps_and_the_last_of_two_with_one_time() -> None:
    rows = "ts,y\n0,0.1\n60,\n120,nan\n180,0.2\n180,0.4\n"
    [body] = requests_of(source(rows, points=3))

    assert body["y"] == [None, None, 0.4]
    assert len(body["y_ts"]) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "contains no values"),
        ("ts,price\n", "contains no values"),
        ("when,price\n2026-02-20 10:00,0.4\n", "the column when seems to hold times; call it ts"),
        ("seconds,price\n1771588800,0.4\n", "the column seconds seems to hold times"),
        ("a,b\n1,2\n", "no column of values among a, b; call it price or value"),
        ("price\n0.4\nmuch\n", "row 2: a value is not a number"),
        ("ts,price\nsoon,0.4\n", "row 1: a time is neither ISO-8601 nor seconds"),
        ("ts,price\n1e300,0.4\n", "1e+300 is no time; POSIX times are in seconds"),
        ("ts,price\n1771588800000,0.4\n", "1.77159e+12 is no time"),
        ("0.4\n0.5\nx\n", "row 3: a value is not a number"),
        ("{,}", "is not JSON (line 1"),
        ('{"a": 1}', "is JSON, but neither values nor requests"),
        ("[[1]]", "row 1: a value is not a number"),
        ("[0.4, 1e999]", "finite"),
    ],
)
def test_file_without_a_valid_series_is_refused_by_name_and_row(text: str, words: str) -> None:
    with pytest.raises(SeriesFileError) as caught:
        requests_of(source(text))

    assert words in str(caught.value)
    assert str(caught.value).startswith("given.csv: ")
    assert "\n" not in str(caught.value)


def test_file_is_read_with_its_time_of_change(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\ufeff0.4\n0.5\n")
    found = read_source(path, 10)

    assert (found.name, found.text[:3]) == ("m.csv", "0.4")
    assert found.ended.timestamp() == pytest.approx(path.stat().st_mtime)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "cannot be read (No such file or directory)"),
        ("odd.csv", b"\xff\xfe\x00", "is not text in UTF-8"),
        ("odd.csv.gz", b"0.4\n", "cannot be read (Not a gzipped file"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00", "is not text in UTF-8"),
    ],
)
def test_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SeriesFileError) as caught:
        read_source(path, 10)
    assert f"{name}: {words}" in str(caught.value)
