"""Pictures of the console for the documentation: ``make screenshots``.

They are of the whole service with its embedded model.
"""

import sys
import threading
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, sync_playwright

from loadtest.payloads import Shape, forecast_bodies
from loadtest.service import Service, start
from tests.browser.conftest import CHROMIUM
from tests.browser.tab import Tab

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
MOST_BYTES = 200_000
WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 800}


def main() -> int:
    """Start, use, take the pictures; 1 when one is too large for the repository."""
    IMAGES.mkdir(exist_ok=True)
    assert CHROMIUM is not None, "apt-get install chromium-headless-shell"
    with start() as service, sync_playwright() as playwright:
        service.wait_ready(path="/runtime/health/ready")
        use(service)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        pictures(browser, service.url)
        browser.close()
    too_large = [p for p in IMAGES.glob("console-*.png") if p.stat().st_size > MOST_BYTES]
    sys.stdout.writelines(f"{p.name}: {p.stat().st_size} bytes\n" for p in IMAGES.glob("*.png"))
    return 1 if too_large else 0


def use(service: Service) -> None:
    """Half a minute of traffic, for the charts of the status."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=10) as http:
        for body in forecast_bodies(60, Shape(points=288), seed=3):
            http.post("/tsfm/forecast", content=body)
            threading.Event().wait(0.4)


def pictures(browser: Browser, url: str) -> None:
    """One of each kind."""
    board = new_tab(browser, url + "/", WIDE, color_scheme="light")
    board.page.locator(".market").first.wait_for()
    board.by_id("board-stop").click()
    take(board, "console-board")
    board.page.close()
    light = new_tab(browser, forecasts := f"{url}/#forecast", WIDE, color_scheme="light")
    picked(light, "lively")
    take(light, "console-light")
    dark = new_tab(browser, forecasts, WIDE, color_scheme="dark")
    picked(dark, "jump")
    take(dark, "console-dark")
    light.by_id("model").select_option("chronos2")  # the embedded runtime does not have it
    picked(light, "gaps")
    take(light, "console-fallback")
    light.by_id("to-status").click()
    light.page.locator(".trend .main-svg").nth(1).wait_for()
    take(light, "console-status", full_page=True)
    still = {"reduced_motion": "reduce"}  # no picture of a page that is scrolling
    phone = new_tab(browser, forecasts, PHONE, color_scheme="light", has_touch=True, **still)
    picked(phone, "lively")
    take(phone, "console-phone")


def new_tab(browser: Browser, url: str, size: Any, **look: Any) -> Tab:
    tab = Tab(browser.new_context(viewport=size, **look).new_page())
    tab.page.goto(url)
    return tab


def picked(tab: Tab, sample: str) -> None:
    tab.pick(sample)
    tab.wait_drawn()


def take(tab: Tab, name: str, *, full_page: bool = False) -> None:
    tab.page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    tab.page.screenshot(path=IMAGES / f"{name}.png", full_page=full_page)


if __name__ == "__main__":
    sys.exit(main())
