"""``/tsfm/board``: what a watch sends is checked, kept, and given back until it changes."""

from typing import Any

import httpx
import orjson
import pytest

from serve_app.http.board_endpoint import MAX_MARKETS, BoardsAnswer
from serve_app.http.openapi.document import EXAMPLES
from tests.support.bench import Bench
from tests.support.builders import make_config

BOARD: dict[str, Any] = EXAMPLES["tsfm_board_{watch}"]["request"]["one market"]["value"]
(MARKET,) = BOARD["markets"]


async def put(bench: Bench, board: Any, watch: str = "polymarket") -> httpx.Response:
    content = board if isinstance(board, bytes) else orjson.dumps(board)
    return await bench.http.put(f"/tsfm/board/{watch}", content=content)


async def test_board_is_given_back_until_the_next_one_replaces_it() -> None:
    bench = Bench()
    assert (await bench.http.get("/tsfm/board")).json() == {"version": "0", "boards": []}
    assert (await put(bench, BOARD)).json() == {"markets": 1}

    answer = await bench.http.get("/tsfm/board")
    (board,) = answer.json()["boards"]
    BoardsAnswer.model_validate(answer.json())
    assert (board["watch"], board["markets"]) == ("polymarket", [MARKET])

    known = {"known": answer.json()["version"]}
    unchanged = await bench.http.get("/tsfm/board", params=known)
    assert unchanged.json() == {"version": known["known"], "boards": None}
    await put(bench, {**BOARD, "markets": []})
    changed = await bench.http.get("/tsfm/board", params=known)
    assert changed.json()["boards"][0]["markets"] == []


def with_market(**changes: Any) -> dict[str, Any]:
    return {**BOARD, "markets": [MARKET, {**MARKET, **changes}]}


def with_answer(**changes: Any) -> dict[str, Any]:
    return with_market(answer={**MARKET["answer"], "market_id": "other", **changes})


YHAT_Q = "markets.1.answer.yhat_q"


@pytest.mark.parametrize(
    ("board", "path"),
    [
        (with_market(y=[0.4, 1.2]), "markets.1.y"),
        (with_market(y=[]), "markets.1.y"),
        (with_market(newest_steps=0), "markets.1.newest_steps"),
        (with_market(title="x" * 301), "markets.1.title"),
        (with_market(answer={"market_id": "m-1"}), "markets.1.answer.as_of_ts"),
        (with_market(y=[0.123456789] * 4000), "markets.1"),
        (with_market(newest_steps=5), "markets.1.newest_steps"),
        (with_answer(freq="5x"), "markets.1.answer.freq"),
        (with_answer(horizon_steps=11), "markets.1.answer.yhat_q"),
        (with_answer(yhat_q={}), "markets.1.answer.yhat_q"),
        (with_answer(yhat_q={"0.1": [0.9] * 12, "0.5": [0.5] * 12, "0.9": [0.95] * 12}), YHAT_Q),
        ({**BOARD, "markets": [MARKET, MARKET]}, "markets.1.answer"),
        ({"markets": []}, "checked_ts"),
        ({**BOARD, "colour": "red"}, "colour"),
    ],
)
async def test_wrong_board_is_refused_whole_with_its_first_error(board: Any, path: str) -> None:
    bench = Bench()
    answer = await put(bench, board)
    assert answer.status_code == 422
    assert answer.json()["error"]["detail"][0]["path"] == path
    assert bench.boards.kept == {}


@pytest.mark.parametrize(
    ("board", "watch", "status", "code"),
    [
        (b"[", "polymarket", 400, "invalid_json"),
        ({**BOARD, "markets": [MARKET] * (MAX_MARKETS + 1)}, "polymarket", 413, "batch_too_long"),
        (BOARD, "a" * 65, 422, "invalid_request"),
        (BOARD, "m%C3%A4rkte", 422, "invalid_request"),
    ],
)
async def test_what_is_no_board_is_refused(board: Any, watch: str, status: int, code: str) -> None:
    answer = await put(Bench(), board, watch)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_board_over_the_limit_of_a_body_is_refused() -> None:
    bench = Bench(make_config(request={"max_body_bytes": 1000}))
    assert (await put(bench, BOARD)).status_code == 413


async def test_without_the_actor_a_board_is_to_be_sent_again() -> None:
    bench = Bench()
    bench.boards.gone = True
    answer = await put(bench, BOARD)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
