"""Debian's Chromium under Playwright. Who has none gets skips that say what to install."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.desk import Desk, OpenDesk
from tests.browser.site import Site, running_site
from tests.browser.status import make_status

SHOWN = make_status()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TESTS: there is no chromium here; apt-get install chromium")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]  # containers run it as root
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def whole_site() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture
def site(whole_site: Site) -> Site:
    """The site with a model that answers."""
    whole_site.ports.failure = None
    return whole_site


@pytest.fixture
def open_desk(browser: Browser) -> Iterator[OpenDesk]:
    """Opens pages in tabs of their own; afterwards no tab may have had an error."""
    desks: list[Desk] = []
    with ExitStack() as tabs:

        def open_one(
            url: str,
            path: str = "/",
            *,
            phone: bool = False,
            expect: str = "",
            status: Any = SHOWN,
            **look: Any,
        ) -> Desk:
            width, height = (375, 720) if phone else (1280, 900)
            context = browser.new_context(
                viewport={"width": width, "height": height}, has_touch=phone, **look
            )
            tabs.callback(context.close)
            context.set_default_timeout(20_000)
            if status is not None:
                context.route("**/tsfm/status", lambda route: route.fulfill(json=status))
            desk = Desk(context.new_page(), expect)
            desks.append(desk)
            desk.page.goto(url + path)
            return desk

        yield open_one
        assert [problem for desk in desks for problem in desk.problems] == []
