"""Pictures of the console for the documentation: ``make screenshots``.

They are of the whole service with its embedded model, so that they show what a newcomer sees.
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
from tests.browser.desk import Desk

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
MOST_BYTES = 200_000
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}


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
    """Half a minute of traffic, so that the status has something to say."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=10) as http:
        for body in forecast_bodies(60, Shape(points=288), seed=3):
            http.post("/tsfm/forecast", content=body)
            threading.Event().wait(0.4)


def pictures(browser: Browser, url: str) -> None:
    """One of each kind."""
    light = tab(browser, url, WIDE, color_scheme="light")
    picked(light, "lively")
    take(light, "console-light")
    light.page.locator("#status").screenshot(path=IMAGES / "console-status.png")
    dark = tab(browser, url, WIDE, color_scheme="dark")
    picked(dark, "jump")
    take(dark, "console-dark")
    light.by_id("model").select_option("chronos2")  # the embedded runtime does not have it
    picked(light, "gaps")
    take(light, "console-fallback")
    still = {"reduced_motion": "reduce"}  # no picture of a page that is scrolling
    phone = tab(browser, url, PHONE, color_scheme="light", has_touch=True, **still)
    picked(phone, "lively")
    phone.page.screenshot(path=IMAGES / "console-phone.png")  # where a forecast leads on a phone


def tab(browser: Browser, url: str, size: Any, **look: Any) -> Desk:
    desk = Desk(browser.new_context(viewport=size, **look).new_page())
    desk.page.goto(url)
    return desk


def picked(desk: Desk, sample: str) -> None:
    desk.pick(sample)
    desk.by_id("go").click()
    desk.wait_drawn()
    desk.page.locator(".trend .main-svg").nth(1).wait_for()


def take(desk: Desk, name: str) -> None:
    desk.page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")
    desk.page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
