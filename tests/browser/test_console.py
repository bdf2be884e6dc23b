"""The console in a real browser, with fakes behind the app."""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Route, expect

from runner.types import BreakerState, FallbackReason, ModelFailure
from tests.browser.tab import OpenTab, Tab, series
from tests.support.site import Site, answer_of, running_site
from tests.support.status import make_status
from tests.support.tokens import ALERTS, make_guarded_config

pytestmark = pytest.mark.browser

NOTHING_YET = "Pick a sample or paste a series, then press Forecast."
REFUSED = r"status of 4\d\d"
STATUS_EVERY_MS = 5000
LOST = (
    "status of 404|ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_FAILED|ERR_CONNECTION_RESET"
)


@pytest.fixture
def tab(site: Site, open_tab: OpenTab) -> Tab:
    return open_tab(site.url)


def traces(tab: Tab, chart: int = 0) -> dict[str, list[float]]:
    found: dict[str, list[float]] = tab.page.evaluate(
        """(i) => Object.fromEntries(document.querySelectorAll(".chart")[i].data
           .map((one) => [one.name, [...one.y]]))""",
        chart,
    )
    return found


def test_real_sample_has_its_source_and_its_own_times(tab: Tab) -> None:
    tab.pick("house")

    expect(tab.by_id("sample-hint")).to_contain_text("FiveThirtyEight, CC BY 4.0")
    expect(tab.by_id("freq")).to_have_value("1d")
    expect(tab.by_id("series-hint")).to_have_text(
        "288 values, 2016-01-24 00:00 to 2016-11-06 00:00 UTC"
    )


def test_charts_hold_the_values_of_the_model_and_of_the_baseline(tab: Tab) -> None:
    tab.paste(series(1))
    with (
        tab.page.expect_response(is_answer_of("fracast-0")) as model,
        tab.page.expect_response(is_answer_of("ewma")) as baseline,
    ):
        tab.by_id("go").click()
    tab.wait_drawn()

    expect(tab.page.locator("#charts figcaption strong")).to_have_text(["fracast-0", "Baseline"])
    expect(tab.by_id("announce")).to_contain_text("The model fracast-0 0.1.0 answered.")
    expect(tab.page.locator("#values-table tbody tr")).to_have_count(12)
    for chart, answer in enumerate((model.value.json(), baseline.value.json())):
        drawn = traces(tab, chart)
        assert len(drawn["history"]) == 60
        for level, name in (("0.1", "10 %"), ("0.5", "50 %"), ("0.9", "90 %")):
            assert drawn[name][0] == drawn["history"][-1]  # where the fan opens
            assert drawn[name][1:] == answer["yhat_q"][level]


def test_levels_at_the_edge_are_drawn_and_listed(tab: Tab) -> None:
    tab.paste(series(13))
    tab.by_id("levels").fill("0.00001 0.999999")
    tab.page.keyboard.press("Control+Enter")
    tab.wait_drawn()

    assert len(traces(tab)["0.001 %"]) == len(traces(tab)["99.9999 %"]) == 13
    expect(tab.page.locator("#values-table thead")).to_contain_text("fracast-0 0.00001")


def is_answer_of(model: str) -> Any:
    return lambda r: r.url.endswith("/tsfm/forecast") and r.json()["meta"]["model_name"] == model


def test_calibrated_bands_are_dashed_lines_beside_the_raw_ones(tab: Tab) -> None:
    def calibrated(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["yhat_q_conformal"] = {
            level: [value + shift for value in body["yhat_q"][level]]
            for level, shift in (("0.1", -0.01), ("0.5", 0.0), ("0.9", 0.01))
        }
        body["conformal_last_step"] |= {"target_coverage": 0.8, "sample_size": 412}
        body["conformal_last_step"] |= {"segment": "all"}
        route.fulfill(response=answer, json=body)

    tab.page.route("**/tsfm/forecast", calibrated)
    tab.forecast(series(14))
    drawn = traces(tab)

    assert drawn["90 % calibrated"] == [value + 0.01 for value in drawn["90 %"][1:]]
    expect(tab.page.locator("#charts figcaption").first).to_contain_text("calibrated")
    expect(tab.by_id("why-body")).to_contain_text("aims at 80 % from 412 outcomes (all)")
    expect(tab.page.locator("#values-table thead")).to_contain_text("fracast-0 calibrated 0.9")


REFUSALS = [
    ("series", "0.4, 1.5, 0.6", "y.1: Probabilities lie between 0 and 1."),
    ("series", "0.4, abc, 0.6", "y.1: Send a number."),
    ("horizon", "5000", "Ask for at most 512 steps."),
    ("levels", "0.5, 0.2", "quantiles.1: Levels must ascend and be unique."),
    ("freq", "5 minutes", "Write it as <n>m, <n>h or <n>d, for example 5m."),
]


def test_error_is_beside_its_field_and_the_input_is_kept(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, expect=REFUSED)
    tab.paste(series(3))
    for field, text, message in REFUSALS:
        before = tab.by_id(field).input_value()
        tab.by_id(field).fill(text)
        tab.by_id("go").click()

        expect(tab.by_id(f"{field}-error")).to_have_text(message)
        expect(tab.by_id("announce")).to_have_text(NOTHING_YET)
        expect(tab.by_id(field)).to_be_focused()
        expect(tab.by_id(field)).to_have_value(text)
        expect(tab.by_id(field)).to_have_attribute("aria-invalid", "true")
        tab.by_id(field).fill(before)


def test_error_is_removed_when_the_field_is_corrected(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, expect=REFUSED)
    tab.forecast(series(15))
    tab.paste("0.4, 1.5, 0.6")
    tab.by_id("go").click()
    expect(tab.by_id("series-error")).not_to_be_empty()
    expect(tab.by_id("announce")).to_contain_text("What is shown is the forecast before.")
    tab.forecast(series(4))

    expect(tab.by_id("series-error")).to_be_empty()
    expect(tab.page.locator("[aria-invalid]")).to_have_count(0)


def test_error_of_a_hidden_field_opens_its_section(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, expect=REFUSED)
    tab.paste(series(5))
    tab.page.get_by_text("More settings").click()
    tab.by_id("deadline").fill("-1")
    tab.page.get_by_text("More settings").click()
    tab.by_id("go").click()

    expect(tab.by_id("deadline-error")).to_be_visible()
    expect(tab.by_id("deadline")).to_be_focused()


def failure(reason: FallbackReason) -> ModelFailure:
    return ModelFailure(reason, BreakerState.OPEN, 30.0)


def test_failure_of_the_runtime_and_its_return_are_shown(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, clock=True)
    verdict, breakers = tab.page.locator(".verdict"), tab.page.locator("[data-part=breakers]")
    site.bench.model.outcome = failure(FallbackReason.RUNTIME_UNREACHABLE)
    tab.forecast(series(6))
    tab.page.clock.fast_forward(STATUS_EVERY_MS)
    expect(verdict).to_have_text("The baseline answered. The model's runtime cannot be reached.")
    expect(tab.page.locator("#charts .chart")).to_have_count(1)
    expect(breakers).to_contain_text("open")
    expect(tab.page.locator("[data-part=reasons]")).to_contain_text("cannot be reached")
    site.bench.model.outcome = failure(FallbackReason.BREAKER_OPEN)
    tab.forecast(series(16))
    expect(verdict).to_contain_text("not called now")
    site.bench.model.outcome = answer_of
    tab.page.wait_for_timeout(1100)  # that long an ingress remembers an open breaker

    tab.forecast(series(6))
    tab.page.clock.fast_forward(STATUS_EVERY_MS)

    expect(verdict).to_have_text("The model fracast-0 0.1.0 answered.")
    expect(tab.page.locator("#charts .chart")).to_have_count(2)
    expect(breakers).to_contain_text("closed")
    expect(tab.by_id("health")).to_have_text("In service")


def test_second_equal_request_is_shown_as_cached(tab: Tab) -> None:
    tab.pick("sure")
    for _ in range(2):
        tab.by_id("go").click()
        tab.wait_drawn()

    expect(tab.page.locator(".verdict")).to_contain_text("from the cache")


def test_stages_of_the_answer_are_shown(tab: Tab) -> None:
    timing = "admission;dur=0.4, queue;dur=1.2, runtime;dur=80.0, post;dur=0.2, total;dur=83.1"

    def timed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "server-timing": timing})

    tab.page.route("**/tsfm/forecast", timed)
    tab.forecast(series(12))

    rows = tab.page.locator("#why tbody tr")
    expect(rows.nth(0)).to_contain_text("Reading and admission0.4 ms")
    expect(rows.nth(2)).to_contain_text("Model call80 ms")
    expect(rows.last).to_contain_text("Seen from this browser")


def test_dropped_csv_sets_series_and_step(tab: Tab) -> None:
    tab.pick("house")
    rows = "\n".join(f"2026-02-20 {h:02}:00:00;0.{40 + h % 7};x" for h in range(24))
    tab.drop(f"when;price;note\n{rows}\n")

    expect(tab.by_id("series-hint")).to_have_text(
        "24 values, 2026-02-20 00:00 to 2026-02-20 23:00 UTC"
    )
    expect(tab.by_id("freq")).to_have_value("1h")
    expect(tab.by_id("sample")).to_have_value("")  # it is not the sample any more
    expect(tab.by_id("sample-hint")).to_be_empty()


def test_gaps_are_sent_as_null(tab: Tab) -> None:
    tab.pick("gaps")
    with tab.page.expect_request("**/tsfm/forecast") as request:
        tab.by_id("go").click()
    tab.wait_drawn()
    sent = json.loads(request.value.post_data or "")

    assert sent["y"].count(None) == 19
    assert "y_ts" not in sent  # they are regular
    expect(tab.by_id("why-body")).to_contain_text("288 steps used, 19 of them filled")


def test_curl_command_sends_the_same_request(tab: Tab) -> None:
    tab.forecast(series(7))
    words = shlex.split(tab.by_id("curl").text_content() or "")
    url, body = words[2], json.loads(words[words.index("-d") + 1])
    answer = httpx.post(url, json=body, trust_env=False, verify=False).json()

    assert words[0] == "curl"
    assert answer["meta"]["cache_hit"] is True
    assert traces(tab)["50 %"][1:] == answer["yhat_q"]["0.5"]


def test_csv_and_picture_can_be_downloaded(tab: Tab) -> None:
    tab.forecast(series(8))
    rows = list(csv.reader(Path(tab.download("csv")).read_text("utf-8").splitlines()))
    picture = Path(tab.download("png")).read_bytes()

    assert rows[0][:2] == ["time", "fracast-0 0.1"]
    assert len(rows) == 13
    assert [float(row[2]) for row in rows[1:]] == traces(tab)["50 %"][1:]
    assert picture[:4] == b"\x89PNG"
    assert len(picture) > 20_000


def test_page_shows_that_the_service_is_not_reachable_and_recovers(open_tab: OpenTab) -> None:
    with running_site() as short_lived:
        tab = open_tab(short_lived.url, expect=LOST, clock=True)
        tab.paste(series(9))
        port = int(short_lived.url.rsplit(":", 1)[1])
    tab.by_id("go").click()
    expect(tab.by_id("form-error")).to_contain_text("The service cannot be reached.")
    expect(tab.by_id("health")).to_have_text("Not reachable")
    assert tab.by_id("series").input_value() == series(9)

    with running_site(port=port):
        tab.by_id("go").click()
        tab.wait_drawn()
        tab.page.clock.fast_forward(STATUS_EVERY_MS)

        expect(tab.by_id("form-error")).to_be_empty()
        expect(tab.by_id("health")).to_have_text("In service")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Site]:
    with running_site(make_guarded_config(burst_steps=10**6)) as site:
        yield site


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_token_is_kept_for_this_tab_only(guarded: Site, open_tab: OpenTab, path: str) -> None:
    tab = open_tab(guarded.url, path, expect=REFUSED)
    expect(tab.by_id("token-error")).to_contain_text("A token is needed")
    expect(tab.by_id("token")).to_be_focused()
    tab.by_id("token").fill(ALERTS)
    tab.page.keyboard.press("Enter")
    expect(tab.by_id("token-panel")).to_be_hidden()
    if path == "/":
        tab.forecast(series(10))
        assert ALERTS not in tab.page.content()
        assert '-H "authorization: Bearer $TOKEN"' in tab.page.content()
    else:
        tab.page.locator(".opblock").first.wait_for()

    assert tab.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert tab.page.evaluate("sessionStorage.length") == 1


LOOKS: list[dict[str, Any]] = [{"color_scheme": "light"}, {"color_scheme": "dark", "phone": True}]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: "-".join(map(str, look.values())))
def test_page_has_no_serious_accessibility_problem_and_fits_the_screen(
    site: Site, open_tab: OpenTab, look: dict[str, Any]
) -> None:
    tab = open_tab(site.url, expect=REFUSED, status=make_status(), **look)
    empty = tab.serious_findings()
    tab.pick("jump")
    tab.by_id("go").click()
    tab.wait_drawn()
    tab.open_details()
    tab.by_id("levels").fill("2")
    tab.by_id("go").click()
    expect(tab.by_id("levels-error")).not_to_be_empty()  # the forecast before stays

    assert empty + tab.serious_findings() == []
    assert tab.overflow_px() <= 0


def test_everything_can_be_done_with_the_keyboard(tab: Tab) -> None:
    keys = tab.page.keyboard
    tab.wait_models()
    tab.tab_to("series")
    keys.insert_text(series(11))
    tab.tab_to("levels")
    keys.press("Control+a")
    keys.insert_text("0.05 0.25 0.5 0.75 0.95")
    tab.tab_to("baseline")
    keys.press("Space")
    tab.tab_to("go")
    ring = tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    keys.press("Enter")
    tab.wait_drawn()

    assert ring == "solid"
    assert {"5 %", "25 %", "50 %", "75 %", "95 %"} < set(traces(tab))
    expect(tab.page.locator("#charts .chart")).to_have_count(1)


def test_theme_is_chosen_and_remembered(tab: Tab) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.page.evaluate(background)
    for _ in range(2):  # system, light, dark
        tab.by_id("theme").click()
    dark = tab.page.evaluate(background)
    tab.page.reload()

    assert light != dark
    assert tab.page.evaluate(background) == dark
    expect(tab.by_id("theme")).to_have_text("Theme: dark")


def test_reduced_motion_is_respected(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, reduced_motion="reduce")

    assert re.fullmatch("0s|none|all", tab.page.evaluate("getComputedStyle(go).transitionDuration"))
    assert tab.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
