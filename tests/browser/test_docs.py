"""The API page in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.browser.tab import OpenTab
from tests.support.site import Site

pytestmark = pytest.mark.browser
FORECAST = "#operations-Forecasts-tsfm_forecast"


def test_forecast_is_tried_with_the_example_of_the_document(site: Site, open_tab: OpenTab) -> None:
    tab = open_tab(site.url, "/docs")
    tab.page.locator(f"{FORECAST} .opblock-summary-control").click()
    with tab.page.expect_response("**/tsfm/forecast") as answered:
        tab.page.locator(f"{FORECAST} .execute").click()

    assert answered.value.status == 200
    assert answered.value.json()["market_id"] == "m-1"
    expect(tab.page.locator(f"{FORECAST} .live-responses-table")).to_contain_text("yhat_q")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_theme_is_accessible_and_loads_nothing_from_elsewhere(
    site: Site, open_tab: OpenTab, scheme: str
) -> None:
    tab = open_tab(site.url, "/docs", color_scheme=scheme)
    requested: list[str] = []
    tab.page.on("request", lambda request: requested.append(request.url))
    tab.page.reload()
    tab.page.locator(".opblock").first.wait_for()
    dark = tab.page.evaluate("document.documentElement.classList.contains('dark-mode')")

    assert dark is (scheme == "dark")
    assert [url for url in requested if not url.startswith((site.url, "data:"))] == []
    assert tab.serious_findings(without="#api") == []  # Swagger UI 5 has barriers of its own
