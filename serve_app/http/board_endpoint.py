"""``/tsfm/board``: the markets of every watch, as its last cycle found them, for the console.

A watch sends its markets after each cycle (`PUT /tsfm/board/{watch}`); they are checked, kept as
they were sent, and given back (`GET /tsfm/board`). PUT, because a browser lets no foreign web page
send it.
"""

import re
from itertools import pairwise
from typing import Annotated

import orjson
from pydantic import AwareDatetime, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import InvalidRequestError
from runner.forecast.check import MAX_NEWEST_STEPS
from runner.pacer import Pacer
from serve_app.auth.rate_limit import body_steps, rate_limit_of
from serve_app.http.bodies.json_items import cut_body
from serve_app.http.errors import of_part
from serve_app.http.requests import (
    AT_ONCE_BYTES,
    FREQ,
    Observed,
    StrictBody,
    Timestamp,
    format_level,
    read_body,
)
from serve_app.http.responses import ForecastAnswer, Out, Probability
from serve_app.http.service import Dependencies

BOARD_PATH = "/tsfm/board/{watch}"
MAX_MARKETS = 500
MAX_BOARDS = 4  # of 1.5 MB each, if full
RETRY_AFTER_S = 1.0
_WATCH = re.compile(r"[\w.-]{1,64}", re.ASCII)
_JSON = "application/json"


class BoardMarketBody(StrictBody):
    """One market: its newest prices and the answer of its check."""

    title: Annotated[str, Field(max_length=300)] | None = None
    y: Annotated[Observed, Field(min_length=1)] = Field(
        description="As in the request of the check: the newest prices are in it."
    )
    newest_steps: Annotated[int, Field(ge=1, le=MAX_NEWEST_STEPS, strict=True)]
    answer: ForecastAnswer


class BoardBody(StrictBody):
    """The markets of a cycle; they replace those of the cycle before."""

    markets: Annotated[list[BoardMarketBody], Field(fail_fast=True)]
    checked_ts: Timestamp = Field(description="When the cycle began.")


class BoardMarket(Out):
    """One market, as it was sent."""

    title: str | None = None
    y: list[Probability | None]
    newest_steps: int
    answer: ForecastAnswer


class Board(Out):
    """The markets of a watch."""

    watch: str
    checked_ts: AwareDatetime
    markets: list[BoardMarket]


class BoardsAnswer(Out):
    """The markets of every watch, the newest board first."""

    version: str = Field(description="Changes with every board that comes.")
    boards: list[Board] | None = Field(description="null: as in the version that is known.")


class BoardTaken(Out):
    """The board is shown from now on."""

    markets: int


async def show_boards(service: Dependencies, request: Request) -> Response:
    """All boards, unless the caller knows their version."""
    version, boards = await service.boards.newest()
    is_known = request.query_params.get("known") == version
    shown = b"null" if is_known else b"[%b]" % b",".join(boards)
    body = b'{"version":%b,"boards":%b}' % (orjson.dumps(version), shown)
    return Response(body, media_type=_JSON)


async def take_board(service: Dependencies, request: Request) -> Response:
    """Takes the whole board of a watch or nothing; raises RequestError and ValidationError."""
    watch = request.path_params["watch"]
    if not _WATCH.fullmatch(watch):
        raise InvalidRequestError("watch", "Name it with at most 64 of A-Z, a-z, 0-9, _ . -")
    limits = service.config.request
    body = await read_body(request.receive, limits.max_body_bytes, limits.body_timeout_s)
    rate_limit_of(request.scope).admit(body_steps(body))
    checked, markets = await _read(body, Pacer(service.clock))
    board = b'{"watch":%b,"checked_ts":%b,"markets":[%b]}' % (
        orjson.dumps(watch),
        orjson.dumps(checked.checked_ts),
        b",".join(markets),
    )
    await service.boards.put(watch, board)
    return Response(orjson.dumps({"markets": len(markets)}), media_type=_JSON)


async def _read(body: bytes, pacer: Pacer) -> tuple[BoardBody, list[bytes]]:
    """The body without its markets, and each market's text, checked up to the first error."""
    envelope, texts = await cut_body(body, "markets", BoardBody, MAX_MARKETS, pacer)
    markets, seen = [], set[str]()
    for number, text in enumerate(texts):
        if len(text) > AT_ONCE_BYTES:
            raise InvalidRequestError(f"markets.{number}", "Send fewer values of this market.")
        try:
            market = BoardMarketBody.model_validate_json(text)
        except ValidationError as error:
            raise of_part(error, "markets", number) from error
        if problem := _problem_of(market):
            raise InvalidRequestError(f"markets.{number}.{problem[0]}", problem[1])
        if market.answer.market_id in seen:
            raise InvalidRequestError(f"markets.{number}.answer", "Send each market once.")
        seen.add(market.answer.market_id)
        markets.append(text)
        await pacer.rest()
    return envelope, markets


def _problem_of(market: BoardMarketBody) -> tuple[str, str] | None:
    """The field that a chart could not be drawn of, and what to do."""
    answer = market.answer
    if not all(y is None or 0 <= y <= 1 for y in market.y):
        return "y", "Probabilities lie between 0 and 1."
    if market.newest_steps > len(market.y):
        return "newest_steps", "Send at least so many values of y."
    if not re.fullmatch(FREQ, answer.freq):
        return "answer.freq", "Write it as <n>m, <n>h or <n>d, n from 1 to 9999, for example 5m."
    paths = {level: answer.yhat_q.get(format_level(level), []) for level in answer.quantiles}
    if not paths or {len(path) for path in paths.values()} != {answer.horizon_steps}:
        return "answer.yhat_q", "Send a value of every level for every step."
    if any(
        low > high for step in zip(*paths.values(), strict=True) for low, high in pairwise(step)
    ):
        return "answer.yhat_q", "Levels must ascend in every step."
    return None
