"""Debian's Chromium under Playwright; without it every test is skipped with the install command."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.browser.tab import WAIT_MS, OpenTab, Tab
from tests.support.site import Site, answer_of, running_site

Profile = Callable[..., BrowserContext]
# The same browser without windows comes first: it needs less than half the CPU.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TESTS: no Chromium here; apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        # Containers run it as root. One process for all tabs compiles each script once.
        options = ["--no-sandbox", "--disable-dev-shm-usage", "--process-per-site"]
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
    whole_site.bench.model.outcome = answer_of
    return whole_site


@pytest.fixture(scope="session")
def profile(browser: Browser, whole_site: Site) -> Profile:
    """A profile of the browser for each look, with a cache that its tests share."""

    @cache
    def of(phone: bool, **look: Any) -> BrowserContext:
        width, height = (375, 720) if phone else (1280, 900)
        size: Any = {"width": width, "height": height}
        context = browser.new_context(viewport=size, has_touch=phone, **look)
        context.set_default_timeout(WAIT_MS)
        context.new_page().goto(f"{whole_site.url}/healthz")  # it keeps that process running
        return context

    return of


@pytest.fixture
def open_tab(profile: Profile) -> Iterator[OpenTab]:
    """Opens pages in tabs of their own; afterwards no tab may have had an error.

    ``status`` replaces the answer of ``/tsfm/status``; with a ``clock`` the test moves the page's
    time on.
    """
    tabs: list[Tab] = []

    def open_one(
        url: str,
        path: str = "/#forecast",
        *,
        phone: bool = False,
        expect: str = "",
        status: Any = None,
        clock: bool = False,
        **look: Any,
    ) -> Tab:
        tab = Tab(profile(phone, **look).new_page(), expect)
        tabs.append(tab)
        if clock:
            tab.page.clock.install()
        if status is not None:
            tab.page.route("**/tsfm/status", lambda route: route.fulfill(json=status))
        tab.page.goto(url + path)
        return tab

    yield open_one
    for tab in tabs:
        tab.page.evaluate("localStorage.clear()")
        tab.page.close()
    assert [problem for tab in tabs for problem in tab.problems] == []
