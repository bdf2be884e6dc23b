"""A tab of the browser, and the errors and warnings in its console."""

import re
from collections.abc import Callable
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from tests.support.builders import walk

SERIOUS = {"serious", "critical"}
MOST_TABS = 60
WAIT_MS = 20_000
expect.set_options(timeout=WAIT_MS)


class Tab:
    """A page, and its problems but for those that match ``expected``.

    A browser writes a line for every answer over 399: a test that wants a refusal says so.
    """

    def __init__(self, page: Page, expected: str = "") -> None:
        self.page = page
        self.problems: list[str] = []
        self._expected = expected
        page.on("console", self._record)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))

    def _record(self, message: ConsoleMessage) -> None:
        wanted = bool(self._expected) and re.search(self._expected, message.text)
        if message.type in ("error", "warning") and not wanted:
            self.problems.append(f"{message.type}: {message.text}")

    def by_id(self, name: str) -> Locator:
        return self.page.locator(f"#{name}")

    def paste(self, text: str) -> None:
        """A series, once the sample of the first screen is drawn."""
        self.wait_idle()
        self.by_id("series").fill(text)

    def pick(self, sample: str) -> None:
        """A sample, which is forecast at once."""
        self.wait_idle()
        self.by_id("sample").select_option(sample)

    def wait_idle(self) -> None:  # not by a function: the page's policy refuses eval
        expect(self.by_id("result")).to_have_attribute("aria-busy", "false")

    def drop(self, text: str, times: int = 1) -> None:
        """Drops a file with that text, so many times over, on the field of the series."""
        self.wait_idle()
        self.page.evaluate(
            """([text, times]) => {
                const data = new DataTransfer();
                data.items.add(new File([text.repeat(times)], "prices.csv", { type: "text/csv" }));
                const event = new DragEvent("drop", { dataTransfer: data, bubbles: true });
                document.querySelector("#series").dispatchEvent(event);
            }""",
            [text, times],
        )

    def forecast(self, text: str) -> None:
        """Pastes and asks; returns when the chart is drawn."""
        self.paste(text)
        self.by_id("go").click()
        self.wait_drawn()

    def wait_drawn(self) -> None:
        self.wait_idle()
        self.page.locator("#chart .main-svg").first.wait_for()

    def open_details(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true })")

    def download(self, button: str) -> str:
        """The path of the file that a button downloads."""
        with self.page.expect_download() as started:
            self.by_id(button).click()
        return str(started.value.path())

    def tab_to(self, name: str) -> None:
        """Presses Tab until that element has the focus."""
        for _ in range(MOST_TABS):
            if self.page.evaluate("document.activeElement.id") == name:
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the Tab key does not lead to {name}")

    def serious_findings(self, without: str = "") -> list[str]:
        """What axe calls serious or critical, with the first element of each."""
        part = {"exclude": [[without]]} if without else None
        found: list[dict[str, Any]] = Axe().run(self.page, part).response["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in SERIOUS
        ]

    def overflow_px(self) -> int:
        """By how much the page is wider than the screen."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return width


OpenTab = Callable[..., Tab]


def series(seed: int, points: int = 60) -> str:
    """Values to paste; another seed gives others."""
    return ", ".join(f"{value:.4f}" for value in walk(points, seed))
