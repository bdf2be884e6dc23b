"""How the console shows what the service reports of itself."""

from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.tab import OpenTab, Tab
from tests.support.site import Site
from tests.support.status import make_status

pytestmark = pytest.mark.browser


def part(tab: Tab, name: str) -> Any:
    return tab.page.locator(f"[data-part={name}]")


def test_report_is_shown_as_tiles_charts_and_tables(site: Site, open_tab: OpenTab) -> None:
    models = [one | {"installed": one["name"] == "chronos2"} for one in make_status()["models"]]
    tab = open_tab(site.url, "/#status", status=make_status(models=models))
    expect(tab.page.locator(".trend .main-svg").nth(1)).to_be_attached()

    expect(part(tab, "tiles")).to_contain_text("3.1 %")
    expect(part(tab, "tiles")).to_contain_text("Queue31series waiting")
    expect(part(tab, "tiles")).to_contain_text("Replicas4Ingress 1, Runner 2, Baseline 1")
    expect(part(tab, "models")).to_contain_text("chronos2–openin 7")  # noqa: RUF001
    expect(part(tab, "reasons")).to_contain_text("The model's runtime cannot be reached.")
    expect(part(tab, "coverage")).to_contain_text("ewmawidth:0.03..0.180 %77.4 %79.8 %312")
    expect(part(tab, "skill")).to_contain_text("fracast-0all−0.20−0.30 to −0.1091worse")  # noqa: RUF001
    expect(part(tab, "skill")).to_contain_text("fracast-0drop58 %, under target73")
    expect(part(tab, "skill")).to_contain_text("ewmathe baseline81 %73")
    expect(part(tab, "models")).to_contain_text("CC-BY-NC-4.0")
    expect(part(tab, "models")).to_contain_text("fracast-0chronos, fracastnot installed")
    expect(part(tab, "models")).to_contain_text("research only")
    expect(tab.by_id("health")).to_have_text("In service")
    tab.page.evaluate("location.hash = 'forecast'")
    expect(tab.by_id("model")).to_contain_text("chronos2, not called now")


def test_countdown_to_the_probe_goes_on_between_two_reports(site: Site, open_tab: OpenTab) -> None:
    breaker = {"model": "fracast-0", "state": "open", "next_probe_in_s": 2.0}
    tab = open_tab(site.url, "/#status", status=make_status(breakers=[breaker]))

    expect(part(tab, "models")).to_contain_text("in 1 s")
    expect(part(tab, "models")).to_contain_text("any moment")


def test_empty_report_is_shown_without_errors(site: Site, open_tab: OpenTab) -> None:
    nothing = dict.fromkeys(make_status()["requests"]) | {"total": 0, "rate_per_s": 0}
    empty = make_status(
        requests=nothing, history=[], fallback_reasons={}, breakers=[], coverage=[], replicas={}
    )
    tab = open_tab(site.url, "/#status", status=empty)

    expect(part(tab, "models")).to_contain_text("not called yet")
    expect(part(tab, "coverage")).to_contain_text("No outcomes have been recorded yet")
    expect(part(tab, "tiles")).to_contain_text("p95 –")  # noqa: RUF001 - the dash for no value


def test_hidden_page_sends_no_requests_until_it_is_visible_again(
    site: Site, open_tab: OpenTab
) -> None:
    tab = open_tab(site.url, "/#status", status=make_status(), clock=True)
    expect(part(tab, "tiles")).to_contain_text("3.1 %")
    requested: list[str] = []

    def count(route: Route) -> None:
        requested.append(route.request.url)
        route.fulfill(json=make_status())

    tab.page.route("**/tsfm/status", count)
    see(tab, "hidden")
    tab.page.clock.run_for(6000)  # longer than the time between two reports
    while_hidden = len(requested)
    with tab.page.expect_request("**/tsfm/status"):
        see(tab, "visible")

    assert while_hidden == 0


def see(tab: Tab, state: str) -> None:
    tab.page.evaluate(
        """(state) => {
            const value = state === "hidden";
            Object.defineProperty(document, "hidden", { value, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_service_without_a_report_can_still_be_used(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, "/#status", expect="status of 404")
    tab.page.route("**/tsfm/status", lambda route: route.fulfill(status=404, json={}))
    tab.page.reload()

    expect(tab.by_id("status-note")).to_have_text("This service does not report its status.")
