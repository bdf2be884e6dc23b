"""The API page in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.browser.desk import OpenDesk
from tests.support.site import Site

pytestmark = pytest.mark.browser
FORECAST = "#operations-default-tsfm_forecast"


def test_forecast_is_tried_with_the_example_of_the_document(
    site: Site, open_desk: OpenDesk
) -> None:
    desk = open_desk(site.url, "/docs")
    desk.page.locator(f"{FORECAST} .opblock-summary-control").click()
    with desk.page.expect_response("**/tsfm/forecast") as answered:
        desk.page.locator(f"{FORECAST} .execute").click()

    assert answered.value.status == 200
    assert answered.value.json()["market_id"] == "m-1"
    expect(desk.page.locator(f"{FORECAST} .live-responses-table")).to_contain_text("yhat_q")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_theme_and_loads_nothing_from_elsewhere(
    site: Site, open_desk: OpenDesk, scheme: str
) -> None:
    desk = open_desk(site.url, "/docs", color_scheme=scheme)
    asked: list[str] = []
    desk.page.on("request", lambda request: asked.append(request.url))
    desk.page.reload()
    desk.page.locator(".opblock").first.wait_for()
    dark = desk.page.evaluate("document.documentElement.classList.contains('dark-mode')")

    assert dark is (scheme == "dark")
    assert [url for url in asked if not url.startswith((site.url, "data:"))] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_our_part_of_the_page_has_no_grave_barrier(
    site: Site, open_desk: OpenDesk, scheme: str
) -> None:
    desk = open_desk(site.url, "/docs", color_scheme=scheme)
    desk.page.locator(".opblock").first.wait_for()

    assert desk.grave_findings(without="#api") == []  # Swagger UI 5 has barriers of its own
