"""The console in a real browser, with ports in place of Serve behind the app."""

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
from tests.browser.desk import Desk, OpenDesk, series
from tests.support.site import Site, answer_of, running_site
from tests.support.status import make_status
from tests.support.tokens import ALERTS, make_guarded_config

pytestmark = pytest.mark.browser

NOTHING_YET = "Pick a sample or paste a series, then press Forecast."
REFUSED = r"status of 4\d\d"
LOST = (
    "status of 404|ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_FAILED|ERR_CONNECTION_RESET"
)


@pytest.fixture
def desk(site: Site, open_desk: OpenDesk) -> Desk:
    return open_desk(site.url)


def traces(desk: Desk, chart: int = 0) -> dict[str, list[float]]:
    found: dict[str, list[float]] = desk.page.evaluate(
        """(i) => Object.fromEntries(document.querySelectorAll(".chart")[i].data
           .map((one) => [one.name, [...one.y]]))""",
        chart,
    )
    return found


def test_sample_is_forecast_with_the_baseline_beside_it(desk: Desk) -> None:
    desk.pick("lively")
    desk.by_id("go").click()
    desk.wait_drawn()

    expect(desk.page.locator("#charts figcaption strong")).to_have_text(["fracast-0", "Baseline"])
    expect(desk.by_id("announce")).to_contain_text("The model fracast-0 0.1.0 answered.")
    expect(desk.page.locator("#values-table tbody tr")).to_have_count(12)


def test_real_sample_has_its_source_and_its_own_times(desk: Desk) -> None:
    desk.pick("house")

    expect(desk.by_id("sample-hint")).to_contain_text("FiveThirtyEight, CC BY 4.0")
    expect(desk.by_id("freq")).to_have_value("1d")
    expect(desk.by_id("series-hint")).to_have_text(
        "288 values, 2016-01-24 00:00 to 2016-11-06 00:00 UTC"
    )


def test_charts_hold_the_values_of_the_answers(desk: Desk) -> None:
    desk.paste(series(1))
    with (
        desk.page.expect_response(is_answer_of("fracast-0")) as model,
        desk.page.expect_response(is_answer_of("ewma")) as baseline,
    ):
        desk.by_id("go").click()
    desk.wait_drawn()

    for chart, answer in enumerate((model.value.json(), baseline.value.json())):
        drawn = traces(desk, chart)
        assert len(drawn["history"]) == 60
        for level, name in (("0.1", "10 %"), ("0.5", "50 %"), ("0.9", "90 %")):
            assert drawn[name][0] == drawn["history"][-1]  # where the fan opens
            assert drawn[name][1:] == answer["yhat_q"][level]


def test_levels_at_the_edge_are_drawn_and_listed(desk: Desk) -> None:
    desk.paste(series(13))
    desk.by_id("levels").fill("0.00001 0.999999")
    desk.page.keyboard.press("Control+Enter")
    desk.wait_drawn()

    assert len(traces(desk)["0.001 %"]) == len(traces(desk)["99.9999 %"]) == 13
    expect(desk.page.locator("#values-table thead")).to_contain_text("fracast-0 0.00001")


def is_answer_of(model: str) -> Any:
    return lambda r: r.url.endswith("/tsfm/forecast") and r.json()["meta"]["model_name"] == model


def test_hovering_shows_the_values_of_a_step(desk: Desk) -> None:
    desk.forecast(series(2))
    chart = desk.page.locator("#charts .chart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    desk.page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])

    expect(chart.locator(".hoverlayer .legend")).to_contain_text("50 %")
    expect(chart.locator(".hoverlayer .legend")).not_to_contain_text("history")  # it has ended


def test_calibrated_bands_are_dashed_lines_beside_the_raw_ones(desk: Desk) -> None:
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

    desk.page.route("**/tsfm/forecast", calibrated)
    desk.forecast(series(14))
    drawn = traces(desk)

    assert drawn["90 % calibrated"] == [value + 0.01 for value in drawn["90 %"][1:]]
    expect(desk.page.locator("#charts figcaption").first).to_contain_text("calibrated")
    expect(desk.by_id("why-body")).to_contain_text("aims at 80 % from 412 outcomes (all)")
    expect(desk.page.locator("#values-table thead")).to_contain_text("fracast-0 calibrated 0.9")


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("series", "0.4, 1.5, 0.6", "y.1: Probabilities lie between 0 and 1."),
        ("series", "0.4, abc, 0.6", "y.1: Input should be a valid number"),
        ("horizon", "5000", "Ask for at most 512 steps."),
        ("levels", "0.5, 0.2", "quantiles.1: Levels must ascend and be unique."),
        ("freq", "5 minutes", "Write it as <n>m, <n>h or <n>d, for example 5m."),
    ],
)
def test_error_is_beside_its_field_and_the_input_is_kept(
    site: Site, open_desk: OpenDesk, field: str, text: str, said: str
) -> None:
    desk = open_desk(site.url, expect=REFUSED)
    desk.paste(series(3))
    desk.by_id(field).fill(text)
    desk.by_id("go").click()

    expect(desk.by_id(f"{field}-error")).to_have_text(said)
    expect(desk.by_id("announce")).to_have_text(NOTHING_YET)
    expect(desk.by_id(field)).to_be_focused()
    expect(desk.by_id(field)).to_have_value(text)
    expect(desk.by_id(field)).to_have_attribute("aria-invalid", "true")


def test_error_is_removed_when_the_field_is_corrected(site: Site, open_desk: OpenDesk) -> None:
    desk = open_desk(site.url, expect=REFUSED)
    desk.forecast(series(15))
    desk.paste("0.4, 1.5, 0.6")
    desk.by_id("go").click()
    expect(desk.by_id("series-error")).not_to_be_empty()
    expect(desk.by_id("announce")).to_contain_text("What is shown is the forecast before.")
    desk.forecast(series(4))

    expect(desk.by_id("series-error")).to_be_empty()
    expect(desk.page.locator("[aria-invalid]")).to_have_count(0)


def test_error_of_a_hidden_field_opens_its_section(site: Site, open_desk: OpenDesk) -> None:
    desk = open_desk(site.url, expect=REFUSED)
    desk.paste(series(5))
    desk.page.get_by_text("More settings").click()
    desk.by_id("deadline").fill("-1")
    desk.page.get_by_text("More settings").click()
    desk.by_id("go").click()

    expect(desk.by_id("deadline-error")).to_be_visible()
    expect(desk.by_id("deadline")).to_be_focused()


def test_fallback_is_explained_and_the_next_answer_is_of_the_model(desk: Desk, site: Site) -> None:
    failure = ModelFailure(FallbackReason.RUNTIME_UNREACHABLE, BreakerState.OPEN, 30.0)
    site.bench.model.outcome = failure
    desk.forecast(series(6))
    expect(desk.page.locator(".verdict")).to_have_text(
        "The baseline answered. The model's runtime cannot be reached."
    )
    expect(desk.page.locator("#charts .chart")).to_have_count(1)
    site.bench.model.outcome = answer_of
    desk.page.wait_for_timeout(1100)  # that long an ingress remembers an open breaker

    desk.forecast(series(6))

    expect(desk.page.locator(".verdict")).to_have_text("The model fracast-0 0.1.0 answered.")
    expect(desk.page.locator("#charts .chart")).to_have_count(2)


def test_second_equal_request_is_shown_as_cached(desk: Desk) -> None:
    desk.pick("sure")
    for _ in range(2):
        desk.by_id("go").click()
        desk.wait_drawn()

    expect(desk.page.locator(".verdict")).to_contain_text("from the cache")


def test_stages_of_the_answer_are_shown(desk: Desk) -> None:
    timing = "admission;dur=0.4, queue;dur=1.2, runtime;dur=80.0, post;dur=0.2, total;dur=83.1"

    def timed(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "server-timing": timing})

    desk.page.route("**/tsfm/forecast", timed)
    desk.forecast(series(12))

    rows = desk.page.locator("#why tbody tr")
    expect(rows.nth(0)).to_contain_text("Reading and admission0.4 ms")
    expect(rows.nth(2)).to_contain_text("Model call80 ms")
    expect(rows.last).to_contain_text("Seen from this browser")


def test_dropped_csv_sets_series_and_step(desk: Desk) -> None:
    desk.pick("house")
    rows = "\n".join(f"2026-02-20 {h:02}:00:00;0.{40 + h % 7};x" for h in range(24))
    desk.drop(f"when;price;note\n{rows}\n")

    expect(desk.by_id("series-hint")).to_have_text(
        "24 values, 2026-02-20 00:00 to 2026-02-20 23:00 UTC"
    )
    expect(desk.by_id("freq")).to_have_value("1h")
    expect(desk.by_id("sample")).to_have_value("")  # it is not the sample any more
    expect(desk.by_id("sample-hint")).to_be_empty()


def test_gaps_are_sent_as_null(desk: Desk) -> None:
    desk.pick("gaps")
    with desk.page.expect_request("**/tsfm/forecast") as asked:
        desk.by_id("go").click()
    desk.wait_drawn()
    sent = json.loads(asked.value.post_data or "")

    assert sent["y"].count(None) == 19
    assert "y_ts" not in sent  # they are regular
    expect(desk.by_id("why-body")).to_contain_text("288 steps used, 19 of them filled")


def test_curl_command_sends_the_same_request(desk: Desk) -> None:
    desk.forecast(series(7))
    words = shlex.split(desk.by_id("curl").text_content() or "")
    url, body = words[2], json.loads(words[words.index("-d") + 1])
    answer = httpx.post(url, json=body, trust_env=False).json()

    assert words[0] == "curl"
    assert answer["meta"]["cache_hit"] is True
    assert traces(desk)["50 %"][1:] == answer["yhat_q"]["0.5"]


def test_csv_and_picture_can_be_downloaded(desk: Desk) -> None:
    desk.forecast(series(8))
    rows = list(csv.reader(Path(desk.download("csv")).read_text("utf-8").splitlines()))
    picture = Path(desk.download("png")).read_bytes()

    assert rows[0][:2] == ["time", "fracast-0 0.1"]
    assert len(rows) == 13
    assert [float(row[2]) for row in rows[1:]] == traces(desk)["50 %"][1:]
    assert picture[:4] == b"\x89PNG"
    assert len(picture) > 20_000


def test_page_shows_that_the_service_is_not_reachable_and_recovers(open_desk: OpenDesk) -> None:
    with running_site() as short_lived:
        desk = open_desk(short_lived.url, expect=LOST, clock=True)
        desk.paste(series(9))
        port = int(short_lived.url.rsplit(":", 1)[1])
    desk.by_id("go").click()
    expect(desk.by_id("form-error")).to_contain_text("The service cannot be reached.")
    expect(desk.by_id("health")).to_have_text("Not reachable")
    assert desk.by_id("series").input_value() == series(9)

    with running_site(port=port):
        desk.by_id("go").click()
        desk.wait_drawn()
        desk.page.clock.fast_forward(5000)  # when the page asks for the status again

        expect(desk.by_id("form-error")).to_be_empty()
        expect(desk.by_id("health")).to_have_text("In service")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Site]:
    with running_site(make_guarded_config(burst_steps=10**6)) as site:
        yield site


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_token_is_kept_for_this_tab_only(guarded: Site, open_desk: OpenDesk, path: str) -> None:
    desk = open_desk(guarded.url, path, expect=REFUSED)
    expect(desk.by_id("token-error")).to_contain_text("A token is needed")
    expect(desk.by_id("token")).to_be_focused()
    desk.by_id("token").fill(ALERTS)
    desk.page.keyboard.press("Enter")
    expect(desk.by_id("token-panel")).to_be_hidden()
    if path == "/":
        desk.forecast(series(10))
        assert ALERTS not in desk.page.content()
        assert '-H "authorization: Bearer $TOKEN"' in desk.page.content()
    else:
        desk.page.locator(".opblock").first.wait_for()

    assert desk.page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert desk.page.evaluate("sessionStorage.length") == 1


LOOKS: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark"},
    {"color_scheme": "light", "phone": True},
    {"color_scheme": "dark", "phone": True},
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: "-".join(map(str, look.values())))
def test_page_has_no_grave_barrier_and_fits_the_screen(
    site: Site, open_desk: OpenDesk, look: dict[str, Any]
) -> None:
    desk = open_desk(site.url, expect=REFUSED, status=make_status(), **look)
    empty = desk.grave_findings()
    desk.pick("jump")
    desk.by_id("go").click()
    desk.wait_drawn()
    desk.open_details()
    filled, overflow_px = desk.grave_findings(), desk.overflow_px()
    desk.by_id("levels").fill("2")
    desk.by_id("go").click()
    expect(desk.by_id("levels-error")).not_to_be_empty()

    assert empty + filled + desk.grave_findings() == []
    assert overflow_px <= 0


def test_everything_can_be_done_with_the_keyboard(desk: Desk) -> None:
    keys = desk.page.keyboard
    desk.wait_models()
    desk.tab_to("series")
    keys.insert_text(series(11))
    desk.tab_to("levels")
    keys.press("Control+a")
    keys.insert_text("0.05 0.25 0.5 0.75 0.95")
    desk.tab_to("baseline")
    keys.press("Space")
    desk.tab_to("go")
    ring = desk.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    keys.press("Enter")
    desk.wait_drawn()

    assert ring == "solid"
    assert {"5 %", "25 %", "50 %", "75 %", "95 %"} < set(traces(desk))
    expect(desk.page.locator("#charts .chart")).to_have_count(1)


def test_theme_is_chosen_and_remembered(desk: Desk) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = desk.page.evaluate(background)
    for _ in range(2):  # system, light, dark
        desk.by_id("theme").click()
    dark = desk.page.evaluate(background)
    desk.page.reload()

    assert light != dark
    assert desk.page.evaluate(background) == dark
    expect(desk.by_id("theme")).to_have_text("Theme: dark")


def test_reduced_motion_is_respected(site: Site, open_desk: OpenDesk) -> None:
    desk = open_desk(site.url, reduced_motion="reduce")

    assert re.fullmatch(
        "0s|none|all", desk.page.evaluate("getComputedStyle(go).transitionDuration")
    )
    assert desk.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
