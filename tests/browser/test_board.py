"""The board: the markets of a watch, and without one an example that moves."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from serve_app.http.openapi.document import EXAMPLES
from tests.browser.tab import OpenTab, Tab
from tests.support.site import Site, running_site
from tests.support.tokens import ALERTS, make_guarded_config

pytestmark = pytest.mark.browser

EVERY_MS = 5000
REFUSED = r"status of 4\d\d"
BOARD: dict[str, Any] = EXAMPLES["tsfm_board_{watch}"]["request"]["one market"]["value"]


def market(name: str, breach: str = "none", p_value: float | None = None, **check: Any) -> Any:
    """An entry of a board."""
    entry = deepcopy(BOARD["markets"][0]) | {"title": f"Will {name} happen?"}
    entry["answer"]["market_id"] = name
    figure = None if p_value is None else {"value": p_value, "sample_size": 900, "segment": "all"}
    beyond = 0.0 if breach == "none" else 1.5
    entry["answer"]["check"] |= {
        "breach": breach,
        "p_value": figure,
        "beyond_widths": beyond,
    } | check
    return entry


def show(site: Site, *markets: Any, watch: str = "polymarket") -> None:
    board = {**BOARD, "markets": markets}
    httpx.put(f"{site.url}/tsfm/board/{watch}", json=board).raise_for_status()


@pytest.fixture
def boards(site: Site) -> Iterator[Site]:
    """The site, which has no board before and afterwards."""
    site.bench.boards.kept.clear()
    yield site
    site.bench.boards.kept.clear()
    site.bench.boards.puts += 1


def names(tab: Tab) -> list[str]:
    found: list[str] = tab.page.locator(".market .name").all_inner_texts()
    return found


def test_first_visit_shows_an_example_that_moves_until_it_is_stopped(
    boards: Site, open_tab: OpenTab
) -> None:
    tab = open_tab(boards.url, "/", clock=True)
    cards = tab.page.locator(".market")
    expect(cards).to_have_count(64)
    expect(tab.by_id("board-note")).to_contain_text("FiveThirtyEight, CC BY 4.0")
    expect(tab.by_id("board-summary")).to_contain_text("of 64 markets outside their band")

    with tab.page.expect_request("**/tsfm/check/batch") as sent:
        tab.page.clock.fast_forward(EVERY_MS)
    requests = sent.value.post_data_json["requests"]
    assert {(len(one["y"]), one["observe"]) for one in requests} == {(43, False)}

    tab.by_id("board-stop").click()
    expect(tab.by_id("board-stop")).to_have_text("Play")
    asked = list[str]()
    tab.page.on("request", lambda request: asked.append(request.url))
    with tab.page.expect_request("**/tsfm/board?known=*"):
        tab.page.clock.fast_forward(EVERY_MS)
    assert not [url for url in asked if "check" in url]


def test_reduced_motion_starts_the_example_stopped(boards: Site, open_tab: OpenTab) -> None:
    tab = open_tab(boards.url, "/", reduced_motion="reduce")
    expect(tab.page.locator(".market")).to_have_count(64)
    expect(tab.by_id("board-stop")).to_have_text("Play")


def test_markets_of_a_watch_are_sorted_by_surprise_and_breaches_are_marked(
    boards: Site, open_tab: OpenTab
) -> None:
    show(
        boards,
        market("calm", p_value=0.7),
        market("odd", p_value=0.03),
        market("up", "above", 0.004, run_steps=3),
        market("down", "below", 0.001, run_steps=1),
        market("new", "above"),
    )
    tab = open_tab(boards.url, "/")
    expect(tab.page.locator(".market")).to_have_count(5)

    assert names(tab) == [f"Will {n} happen?" for n in ("down", "up", "new", "odd", "calm")]
    assert tab.page.locator(".market .name").first.get_attribute("title") == "Will down happen?"
    states = tab.page.locator(".market .what").all_inner_texts()
    assert states[:3] == [
        "▼ below its band by 1.5 widths, p 0.001",
        "▲ above its band by 1.5 widths, 3 steps, p 0.004",
        "▲ above its band by 1.5 widths",
    ]
    assert states[-1] == "inside its band, p 0.700"
    expect(tab.by_id("board-summary")).to_have_text("3 of 5 markets outside their band")
    expect(tab.by_id("board-note")).to_contain_text("by the watch polymarket")

    tab.by_id("board-filter").fill("DOWN")
    expect(tab.page.locator(".market:visible")).to_have_count(1)
    expect(tab.by_id("board-summary")).to_contain_text("1 shown")
    tab.by_id("board-filter").fill("zzz")
    expect(tab.by_id("board-empty")).to_have_text("No market has this in its name.")


def test_far_outside_comes_first_also_where_no_p_value_is_known(
    boards: Site, open_tab: OpenTab
) -> None:
    show(
        boards,
        market("barely", "above", 0.16, beyond_widths=0.1),
        market("far", "below", beyond_widths=18.0),
        market("rare", "above", 0.001),
        market("near", "above", beyond_widths=0.1),
    )
    tab = open_tab(boards.url, "/")
    expect(tab.page.locator(".market")).to_have_count(4)

    assert names(tab) == [f"Will {n} happen?" for n in ("far", "rare", "barely", "near")]


def test_next_cycle_of_a_watch_is_shown_and_watches_can_be_chosen(
    boards: Site, open_tab: OpenTab
) -> None:
    show(boards, market("a"), market("b"))
    tab = open_tab(boards.url, "/", clock=True)
    expect(tab.page.locator(".market")).to_have_count(2)

    show(boards, market("b"), market("c", "above"))
    show(boards, market("d"), watch="kalshi")
    tab.page.clock.fast_forward(EVERY_MS)
    expect(tab.page.locator(".market[data-breach=above]")).to_have_count(1)
    assert names(tab) == ["Will c happen?", "Will b happen?"]

    tab.by_id("board-of").select_option("kalshi")
    expect(tab.page.locator(".market .name")).to_have_text(["Will d happen?"])
    tab.by_id("board-of").select_option("an example")
    expect(tab.page.locator(".market")).to_have_count(64)


def test_market_opens_in_the_forecast_view_by_keyboard(boards: Site, open_tab: OpenTab) -> None:
    entry = market("m-7", "above") | {"y": [0.45, None, 0.44, 0.52]}
    show(boards, entry)
    tab = open_tab(boards.url, "/")
    tab.page.locator(".market a").focus()
    with tab.page.expect_request("**/tsfm/forecast") as sent:
        tab.page.keyboard.press("Enter")
    tab.wait_drawn()

    request = sent.value.post_data_json
    assert (request["market_id"], request["y"], request["observe"]) == ("m-7", entry["y"], False)
    assert (request["as_of_ts"], request["freq"]) == ("2026-02-20T12:00:00Z", "5m")
    expect(tab.by_id("result-title")).to_have_text("Will m-7 happen?")
    expect(tab.by_id("board")).to_be_hidden()
    tab.page.go_back()
    expect(tab.page.locator(".market")).to_be_visible()
    tab.page.go_forward()
    with tab.page.expect_request("**/tsfm/forecast") as sent:
        tab.pick("jump")
    assert "observe" not in sent.value.post_data_json


def test_board_is_asked_for_only_while_it_is_seen(boards: Site, open_tab: OpenTab) -> None:
    show(boards, market("a"))
    tab = open_tab(boards.url, "/", clock=True)
    expect(tab.page.locator(".market")).to_have_count(1)
    tab.page.evaluate("location.hash = 'status'")
    expect(tab.by_id("board")).to_be_hidden()
    asked = list[str]()
    tab.page.on("request", lambda request: asked.append(request.url))
    with tab.page.expect_request("**/tsfm/status"):
        tab.page.clock.fast_forward(2 * EVERY_MS)
    assert not [url for url in asked if "board" in url]


def test_token_is_asked_for_once(open_tab: OpenTab) -> None:
    with running_site(make_guarded_config(burst_steps=10**6)) as guarded:
        tab = open_tab(guarded.url, "/", expect=REFUSED)
        expect(tab.by_id("token-error")).to_contain_text("A token is needed")
        expect(tab.by_id("board-empty")).to_contain_text("A token is needed")
        guarded.bench.boards.kept["mine"] = (
            b'{"watch":"mine","checked_ts":"2026-02-20T12:00:05Z","markets":[]}'
        )
        guarded.bench.boards.puts += 1
        tab.by_id("token").fill(ALERTS)
        tab.page.keyboard.press("Enter")
        expect(tab.by_id("board-note")).to_contain_text("by the watch mine")


LOOKS: list[dict[str, Any]] = [{"color_scheme": "light"}, {"color_scheme": "dark", "phone": True}]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: "-".join(map(str, look.values())))
def test_500_markets_are_accessible_and_fit_the_screen(
    boards: Site, open_tab: OpenTab, look: dict[str, Any]
) -> None:
    sides = ("none", "above", "below", "none")
    show(boards, *(market(f"market-{i:03}", sides[i % 4], i / 500) for i in range(500)))
    tab = open_tab(boards.url, "/", **look)
    expect(tab.page.locator(".market")).to_have_count(500)

    assert tab.serious_findings() == []
    assert tab.overflow_px() <= 0
