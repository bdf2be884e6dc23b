"""The console over the whole service, whose runtime is stopped and started again."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from loadtest.service import EMBEDDED_RUNTIME, Service, free_block, start
from loadtest.stub.process import start_stub
from tests.browser.tab import OpenTab, Tab, series

pytestmark = pytest.mark.browser

MODELS = ("--model", "mock", "--model", "fracast-0")
COOLDOWN_S = 3
SOON_MS = 30_000


@pytest.fixture(scope="module")
def runtime_port() -> int:
    return free_block(1)


@pytest.fixture(scope="module")
def service(runtime_port: int) -> Iterator[Service]:
    env = {
        "TSFM_TOLLAMA__BASE_URL": f"http://127.0.0.1:{runtime_port}",
        "TSFM_CIRCUIT_BREAKER__COOLDOWN_S": str(COOLDOWN_S),
        "TSFM_CIRCUIT_BREAKER__COOLDOWN_GROWTH": "1",
    }
    service = start(env=env, without=[EMBEDDED_RUNTIME])
    try:
        service.wait_ready()
        yield service
    finally:
        left = service.stop()
    assert left == [], "processes were left behind"


def ask_until(tab: Tab, words: str, first_seed: int, tries: int = 20) -> None:
    """Forecasts new series until an answer is explained by ``words``."""
    for seed in range(first_seed, first_seed + tries):
        tab.forecast(series(seed))
        if re.search(words, tab.page.locator(".verdict").inner_text()):
            return
        tab.page.wait_for_timeout(500)
    raise AssertionError(f"no answer said {words}, but: {tab.page.inner_text('.verdict')}")


def test_page_shows_that_the_runtime_stopped_and_started_again(
    service: Service, runtime_port: int, open_tab: OpenTab
) -> None:
    breakers = "[data-part=breakers]"
    tab = open_tab(service.url)
    with ExitStack() as running:
        running.enter_context(start_stub("--port", str(runtime_port), *MODELS))
        ask_until(tab, "^The model fracast-0", 100)

    ask_until(tab, "The model's runtime cannot be reached", 200)
    ask_until(tab, "not called now", 300)
    expect(tab.page.locator(breakers)).to_contain_text("open", timeout=SOON_MS)

    with start_stub("--port", str(runtime_port), *MODELS):
        ask_until(tab, "^The model fracast-0", 400)
        expect(tab.page.locator(breakers)).to_contain_text("closed", timeout=SOON_MS)
        expect(tab.page.locator("[data-part=reasons]")).to_contain_text("cannot be reached")
        expect(tab.by_id("health")).to_have_text("In service")


def test_pages_pass_the_proxy_as_they_were_written(service: Service, open_tab: OpenTab) -> None:
    tab = open_tab(service.url, "/docs")
    tab.page.locator(".opblock").first.wait_for()
    again = tab.page.request.get(f"{service.url}/openapi.json")

    assert json.loads(again.body())["openapi"] == "3.1.0"
