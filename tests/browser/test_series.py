"""How pasted text and files are read, in the browser that reads them."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.tab import OpenTab
from tests.support.site import Site

pytestmark = pytest.mark.browser

READ = "async (text) => (await import('./console/series.js')).readSeries(text)"
MARKETS = "async (text) => (await import('./console/series.js')).marketsIn(text)"
STEP = "async (times) => (await import('./console/series.js')).stepOf(times)"
NOON, FIVE_PAST = "2026-02-20T12:00:00Z", "2026-02-20T12:05:00Z"
CASES: list[tuple[str, list[Any], list[str] | None]] = [
    ("0.1, 0.2,0.3", [0.1, 0.2, 0.3], None),
    ("0.1 0.2\n0.3\n", [0.1, 0.2, 0.3], None),
    ("[0.1, null, 0.3]", [0.1, None, 0.3], None),
    ("0.1,\n0.2,\n,0.3", [0.1, 0.2, None, 0.3], None),
    ("price\n0.1\n0.2", [0.1, 0.2], None),
    ("0.1; nan; 0.3", [0.1, None, 0.3], None),
    ("0.1, abc, 1e-3", [0.1, "abc", 0.001], None),
    ("", [], None),
    (f"time,value\n{NOON},0.1\n{FIVE_PAST},", [0.1, None], [NOON, FIVE_PAST]),
    (
        f"Mid,Yes Price,Date (UTC)\n0.3,0.1,{NOON}\n0.4,0.2,{FIVE_PAST}",
        [0.1, 0.2],
        [NOON, FIVE_PAST],
    ),
    ("12.02.2026,0.1\n13.02.2026,0.2", ["12.02.2026", 0.1, "13.02.2026", 0.2], None),
    ("1771588800,0.1\n1771589100,0.2", [0.1, 0.2], [NOON, FIVE_PAST]),
    ("1771588800000\t0.1\n1771589100000\t0.2", [0.1, 0.2], [NOON, FIVE_PAST]),
    ("id;p;ts\n7;0.1;2026-02-20 12:00\n7;0.2;2026-02-20 12:05", [0.1, 0.2], [NOON, FIVE_PAST]),
    (
        '"when","odds"\r\n"2026-02-20T13:00:00+01:00","0.1"\r\n"2026-02-20 12:05:00","0.2"\r\n',
        [0.1, 0.2],
        [NOON, FIVE_PAST],
    ),
    (
        f"time,value\n{NOON},0.1\nsoon,0.2\n{FIVE_PAST},0.3",
        [0.1, 0.2, 0.3],
        [NOON, "soon", FIVE_PAST],
    ),
]


STEPS: list[tuple[list[str] | None, str | None]] = [
    ([NOON, FIVE_PAST], "5m"),
    (["2026-02-20T10:00:00Z", "2026-02-20T11:00:00Z", NOON], "1h"),
    (["2026-02-18T00:00:00Z", "2026-02-20T00:00:00Z"], "2d"),
    ([NOON], None),
    ([NOON, NOON], None),
    (None, None),
]


def test_text_is_read_in_every_usual_form(site: Site, open_tab: OpenTab) -> None:
    page = open_tab(site.url).page
    read = [(text, page.evaluate(READ, text)) for text, _, _ in CASES]

    assert read == [(text, {"values": values, "times": times}) for text, values, times in CASES]


FILES = {
    "0.1, 0.2": ["", "0.1, 0.2"],
    f"a;{NOON};1\na;{FIVE_PAST};0\nb;{NOON};1\nb;{FIVE_PAST};0": [
        "a",
        f"a;{NOON};1\na;{FIVE_PAST};0",
    ],
    f"ts,id,p\n{NOON},7,0.1\n{FIVE_PAST},7,0.2": ["7", f"ts,id,p\n{NOON},7,0.1\n{FIVE_PAST},7,0.2"],
    f"id,ts,p\n1,{NOON},0.1\n2,{FIVE_PAST},1": ["", f"id,ts,p\n1,{NOON},0.1\n2,{FIVE_PAST},1"],
}


def test_step_of_a_series_and_first_market_of_a_file_are_found(
    site: Site, open_tab: OpenTab
) -> None:
    page = open_tab(site.url).page

    assert [(times, page.evaluate(STEP, times)) for times, _ in STEPS] == STEPS
    assert {text: page.evaluate(MARKETS, text)[0] for text in FILES} == FILES


def test_large_file_is_refused_with_the_limit_before_it_is_read(
    site: Site, open_tab: OpenTab
) -> None:
    tab = open_tab(site.url)
    tab.drop("0.41,0.42,0.43,0.44\n", times=2_700_000)

    expect(tab.by_id("series-error")).to_contain_text("prices.csv has 54 MB; this page reads at")
    expect(tab.by_id("series-error")).to_contain_text("Keep fewer rows")
    expect(tab.by_id("chart")).to_be_hidden()
