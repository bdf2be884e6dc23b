"""The console in a real browser, with fakes behind the app."""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Route, expect

from runner.types import Bands, BreakerState, FallbackReason, ModelFailure
from tests.browser.tab import OpenTab, Tab, series
from tests.support.builders import make_answer
from tests.support.site import Site, answer_of, running_site
from tests.support.status import make_status
from tests.support.tokens import ALERTS, make_guarded_config

pytestmark = pytest.mark.browser

REFUSED = r"status of 4\d\d"
STATUS_EVERY_MS = 5000
LOST = (
    "status of 404|ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_FAILED|ERR_CONNECTION_RESET"
)


@pytest.fixture
def tab(site: Site, open_tab: OpenTab) -> Tab:
    return open_tab(site.url)


def traces(tab: Tab) -> dict[str, list[float]]:
    """The values of each line of the chart, in hundredths."""
    found: dict[str, list[float]] = tab.page.evaluate(
        "Object.fromEntries(chart.data.map((one) => [one.name, [...one.y]]))"
    )
    return found


def percents(path: list[float]) -> list[float]:
    return [100 * value for value in path]


def test_forecast_view_shows_a_forecast_and_the_button(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url)
    tab.page.set_viewport_size({"width": 1440, "height": 900})
    tab.wait_drawn()

    expect(tab.by_id("result-title")).to_have_text("Lively market (generated)")
    expect(tab.by_id("price")).to_contain_text("market sample-lively")
    expect(tab.by_id("announce")).to_contain_text("In 1 h: P90 60.0 %, P50 45.0 %, P10 30.0 %.")
    for name in ("chart", "go"):
        expect(tab.by_id(name)).to_be_in_viewport(ratio=1)


def test_address_holds_what_is_needed_to_share_a_forecast_of_a_sample(tab: Tab) -> None:
    tab.pick("jump")
    tab.by_id("horizon").fill("24")
    tab.by_id("levels").fill("0.2 0.8")
    tab.by_id("go").click()
    tab.wait_drawn()
    shared = tab.page.url
    tab.page.goto("about:blank")
    tab.page.goto(shared)
    tab.wait_drawn()

    assert shared.endswith("/?sample=jump&horizon=24&levels=0.2+0.8#forecast")
    expect(tab.by_id("result-title")).to_have_text("Jump on news (generated)")
    assert len(traces(tab)["P80"]) == 25
    tab.forecast(series(20))
    assert tab.page.url.endswith("/?horizon=24&levels=0.2+0.8#forecast")  # no series in an address


def test_chart_table_and_tooltip_hold_the_values_of_the_answers(tab: Tab) -> None:
    tab.paste(series(1))
    with (
        tab.page.expect_response(is_answer_of("fracast-0")) as model,
        tab.page.expect_response(is_answer_of("ewma")) as baseline,
    ):
        tab.by_id("go").click()
    tab.wait_drawn()

    expect(tab.by_id("announce")).to_contain_text("The model fracast-0 0.1.0 answered.")
    expect(tab.page.locator("#values-table tbody tr")).to_have_count(12)
    drawn = traces(tab)
    assert len(drawn["Price"]) == 60
    for answer, prefix in ((model.value.json(), ""), (baseline.value.json(), "Baseline ")):
        for level, name in (("0.1", "P10"), ("0.5", "P50"), ("0.9", "P90")):
            assert drawn[prefix + name][0] == drawn["Price"][-1]  # where the fan opens
            assert drawn[prefix + name][1:] == percents(answer["yhat_q"][level])
    tab.by_id("baseline").click()
    tab.page.get_by_role("button", name="¢").click()
    tab.page.mouse.move(*place_in_chart(tab, 0.9, 0.5))
    expect(tab.page.locator("#chart .hoverlayer .legendtext")).to_have_text(
        ["P90 : 60.0 ¢", "P50 : 45.0 ¢", "P10 : 30.0 ¢"]
    )
    expect(tab.page.locator("#values-table tbody tr").first).to_contain_text("45.0 ¢")


def test_double_click_after_a_zoom_shows_the_whole_of_the_present_chart(tab: Tab) -> None:
    ranges = "[chart.layout.xaxis.range.map(String), [...chart.layout.yaxis.range]]"
    tab.forecast(series(17))
    tab.forecast(", ".join(["0.912", "0.913"] * 30))
    whole = tab.page.evaluate(ranges)
    left, top = place_in_chart(tab, 0.3, 0.3)
    mouse = tab.page.mouse
    mouse.move(left, top)
    mouse.down()
    mouse.move(left + 150, top + 80, steps=4)
    mouse.up()
    zoomed = tab.page.evaluate(ranges)
    tab.page.wait_for_timeout(400)  # a click that follows sooner would be part of the drag
    mouse.dblclick(left, top)
    tab.page.wait_for_timeout(400)

    assert zoomed != whole
    assert tab.page.evaluate(ranges) == whole  # the picture takes these too
    assert whole[1][0] < 30 < 91.3 < whole[1][1]


def place_in_chart(tab: Tab, across: float, down: float) -> tuple[float, float]:
    box = tab.by_id("chart").bounding_box()
    assert box is not None
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


@pytest.mark.parametrize("middle", [0.0005, 0.012, 0.9995])
def test_price_labels_are_distinct_and_inside_0_to_100(tab: Tab, site: Site, middle: float) -> None:
    rows = np.clip(middle + np.array([-0.008, 0, 0.008]), 0, 1)
    outcome = make_answer(bands=Bands(np.tile(rows, (12, 1)), ()))
    site.bench.model.outcome = lambda _: outcome
    tab.forecast(", ".join([f"{middle}", f"{middle + 0.0001:.4f}"] * 30))
    tab.by_id("baseline").click()
    labels = tab.page.locator("#chart .ytick text").all_text_contents()
    values = [float(label.removesuffix(" %")) for label in labels]

    assert len(set(values)) == len(labels) > 3
    assert 0 <= min(values) <= max(values) <= 100
    assert len({len(label.partition(".")[2]) for label in labels}) == 1


def test_levels_at_the_edge_are_drawn_and_listed(tab: Tab) -> None:
    tab.paste(series(13))
    tab.by_id("levels").fill("0.00001 0.999999")
    tab.page.keyboard.press("Control+Enter")
    tab.wait_drawn()

    assert len(traces(tab)["P0.001"]) == len(traces(tab)["P99.9999"]) == 13
    expect(tab.page.locator("#values-table thead")).to_contain_text("baseline 0.00001")


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

    assert drawn["Calibrated P90"] == pytest.approx([value + 1 for value in drawn["P90"][1:]])
    expect(tab.by_id("legend")).to_contain_text("calibrated")
    expect(tab.by_id("why-body")).to_contain_text("aims at 80 % from 412 outcomes (all)")
    expect(tab.page.locator("#values-table thead")).to_contain_text("fracast-0 calibrated 0.9")


REFUSALS = [
    ("deadline", "-1", "Send more than 0.0."),
    ("series", "0.4, 1.5, 0.6", "y.1: Probabilities lie between 0 and 1."),
    ("series", "0.4, abc, 0.6", "y.1: Send a number."),
    ("horizon", "5000", "Ask for at most 512 steps."),
    ("levels", "0.5, 0.2", "quantiles.1: Levels must ascend and be unique."),
    ("freq", "5 minutes", "Write it as <n>m, <n>h or <n>d, n from 1 to 9999, for example 5m."),
]


def test_error_is_beside_its_field_and_the_input_is_kept(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, expect=REFUSED)
    tab.paste(series(3))
    for field, text, message in REFUSALS:
        before = tab.by_id(field).input_value()
        tab.page.evaluate("more.open = true")
        tab.by_id(field).fill(text)
        tab.page.evaluate("more.open = false")  # an error of a field in it opens it
        tab.by_id("go").click()

        expect(tab.by_id(f"{field}-error")).to_have_text(message)
        expect(tab.by_id("announce")).to_contain_text("No forecast.")
        expect(tab.by_id(field)).to_be_focused()
        expect(tab.by_id(field)).to_have_value(text)
        expect(tab.by_id(field)).to_have_attribute("aria-invalid", "true")
        tab.by_id(field).fill(before)


def test_neither_error_nor_chart_of_an_earlier_series_stays(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, expect=REFUSED)
    tab.drop("0.4, 1.5, 0.6")
    expect(tab.by_id("series-error")).not_to_be_empty()
    expect(tab.by_id("chart")).to_be_hidden()
    tab.drop(series(15))
    tab.wait_drawn()
    expect(tab.by_id("series-error")).to_be_empty()
    expect(tab.page.locator("[aria-invalid]")).to_have_count(0)
    tab.paste("0.4")
    expect(tab.by_id("chart")).to_be_hidden()

    tab.forecast(series(4))
    tab.by_id("horizon").fill("5000")
    tab.by_id("go").click()
    expect(tab.by_id("announce")).to_contain_text("What is shown is the forecast before.")


def test_one_market_of_a_file_is_chosen(tab: Tab) -> None:
    tab.pick("house")
    expect(tab.by_id("sample-hint")).to_contain_text("FiveThirtyEight, CC BY 4.0")
    expect(tab.by_id("freq")).to_have_value("1d")
    rows = [f"m-{m},2026-02-20T{h:02}:00:00Z,0.{m}{h}" for h in range(10, 24) for m in (1, 2)]
    tab.drop("\n".join(["market_id,time,price", *rows]))
    expect(tab.by_id("result-title")).to_have_text("m-1")
    tab.wait_drawn()
    first = traces(tab)["Price"]
    tab.by_id("pick").select_option(label="m-2")
    expect(tab.by_id("result-title")).to_have_text("m-2")
    tab.wait_drawn()

    assert first == percents([float(f"0.1{h}") for h in range(10, 24)])
    assert traces(tab)["Price"] == percents([float(f"0.2{h}") for h in range(10, 24)])
    expect(tab.by_id("pick-hint")).to_contain_text("The file holds 2 markets")
    expect(tab.by_id("series-hint")).to_have_text(
        "14 values, 2026-02-20 10:00 to 2026-02-20 23:00 UTC"
    )
    expect(tab.by_id("freq")).to_have_value("1h")
    expect(tab.by_id("sample-hint")).to_be_empty()  # it is not the sample any more
    assert tab.page.url.endswith("/?market=m-2#forecast")


def failure(reason: FallbackReason) -> ModelFailure:
    return ModelFailure(reason, BreakerState.OPEN, 30.0)


def test_failure_of_the_runtime_and_its_return_are_shown(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, clock=True)
    verdict, models = tab.page.locator(".verdict"), tab.page.locator("[data-part=models]")
    site.bench.model.outcome = failure(FallbackReason.RUNTIME_UNREACHABLE)
    tab.forecast(series(6))
    tab.page.clock.fast_forward(STATUS_EVERY_MS)
    expect(verdict).to_have_text("The baseline answered. The model's runtime cannot be reached.")
    expect(tab.by_id("baseline")).to_be_hidden()
    expect(models.locator("[data-state=open]")).to_be_attached()
    expect(tab.page.locator("[data-part=reasons]")).to_contain_text("cannot be reached")
    site.bench.model.outcome = failure(FallbackReason.BREAKER_OPEN)
    tab.forecast(series(16))
    expect(verdict).to_contain_text("not called now")
    site.bench.model.outcome = answer_of
    tab.page.wait_for_timeout(1100)  # that long an ingress remembers an open breaker

    tab.forecast(series(6))
    tab.page.clock.fast_forward(STATUS_EVERY_MS)

    expect(verdict).to_have_text("The model fracast-0 0.1.0 answered.")
    expect(tab.by_id("baseline")).to_be_visible()
    expect(models.locator("[data-state=closed]")).to_be_attached()
    expect(tab.by_id("health")).to_have_text("In service")


def test_second_equal_request_is_shown_as_cached(tab: Tab) -> None:
    tab.pick("sure")
    tab.wait_drawn()
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


def test_gaps_are_sent_as_null(tab: Tab) -> None:
    tab.wait_idle()
    with tab.page.expect_request("**/tsfm/forecast") as request:
        tab.pick("gaps")
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
    assert traces(tab)["P50"][1:] == percents(answer["yhat_q"]["0.5"])


def test_csv_and_picture_can_be_downloaded(tab: Tab) -> None:
    tab.forecast(series(8))
    rows = list(csv.reader(Path(tab.download("csv")).read_text("utf-8").splitlines()))
    picture = Path(tab.download("png")).read_bytes()

    assert rows[0][:2] == ["time", "fracast-0 0.1"]
    assert len(rows) == 13
    assert percents([float(row[2]) for row in rows[1:]]) == traces(tab)["P50"][1:]
    assert picture[:4] == b"\x89PNG"
    assert len(picture) > 20_000


def test_page_shows_that_the_service_is_not_reachable_and_recovers(open_tab: OpenTab) -> None:
    with running_site() as short_lived:
        tab = open_tab(short_lived.url, expect=LOST, clock=True)
        tab.paste(series(9))
        port = int(short_lived.url.rsplit(":", 1)[1])
    tab.by_id("go").click()
    expect(tab.by_id("announce")).to_contain_text("No forecast. The service cannot be reached.")
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


@pytest.mark.parametrize("path", ["/#forecast", "/docs"])
def test_token_is_kept_for_this_tab_only(guarded: Site, open_tab: OpenTab, path: str) -> None:
    tab = open_tab(guarded.url, path, expect=REFUSED)
    expect(tab.by_id("token-error")).to_contain_text("A token is needed")
    expect(tab.by_id("token")).to_be_focused()
    tab.by_id("token").fill(ALERTS)
    tab.page.keyboard.press("Enter")
    expect(tab.by_id("token-panel")).to_be_hidden()
    if path != "/docs":
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
    tab.page.evaluate("location.hash = 'status'")
    tab.page.locator(".trend .main-svg").nth(1).wait_for()
    status, overflow_px = tab.serious_findings(), tab.overflow_px()
    tab.page.evaluate("location.hash = 'forecast'")
    tab.pick("jump")
    tab.wait_drawn()
    tab.open_details()
    tab.by_id("levels").fill("2")
    tab.by_id("go").click()
    expect(tab.by_id("levels-error")).not_to_be_empty()  # the forecast before stays

    assert status + tab.serious_findings() == []
    assert max(overflow_px, tab.overflow_px()) <= 0


def test_everything_can_be_done_with_the_keyboard(tab: Tab) -> None:
    keys = tab.page.keyboard
    tab.wait_drawn()
    tab.tab_to("baseline")
    keys.press("Space")
    tab.tab_to("series")
    keys.press("Control+a")
    keys.insert_text(series(11))
    tab.tab_to("levels")
    keys.press("Control+a")
    keys.insert_text("0.05 0.25 0.5 0.75 0.95")
    tab.tab_to("go")
    ring = tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    keys.press("Enter")
    tab.wait_drawn()

    assert ring == "solid"
    assert set(traces(tab)) == {"area", "Price", "P5", "P25", "P50", "P75", "P95"}


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
