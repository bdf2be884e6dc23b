"""``POST /tsfm/outcomes``: takes actual values, and answers how many of them were scored."""

from dataclasses import asdict
from typing import Annotated

import orjson
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from runner.calibration.coverage import Actual
from runner.errors import InvalidRequestError
from runner.pacer import Pacer
from serve_app.auth.rate_limit import body_steps, rate_limit_of
from serve_app.http.bodies.json_items import cut_body
from serve_app.http.errors import of_part
from serve_app.http.requests import AT_ONCE_BYTES, Name, StrictBody, Timestamp, read_body
from serve_app.http.responses import Count, Out
from serve_app.http.service import Dependencies

Probability = Annotated[float, Field(ge=0, le=1, strict=True)]


class OutcomeBody(StrictBody):
    """What a market's price was at one moment."""

    market_id: Name = Field(description="As in the forecasts' requests.")
    ts: Timestamp = Field(
        description="A time that forecasts speak of, give or take a tenth of a step"
    )
    value: Probability


class OutcomesBody(StrictBody):
    """Many of them."""

    outcomes: Annotated[list[OutcomeBody], Field(fail_fast=True)]


class OutcomesAnswer(Out):
    """What became of the outcomes of one call: `accepted` is `scored` and `unknown` together."""

    accepted: Count
    scored: Count = Field(description="Those that some forecast had waited for.")
    unknown: Count = Field(
        description="Ignored: nothing was forecast for that market and time, or it was scored."
    )
    points: Count = Field(description="Steps of forecasts that were scored, several for a time.")


SWITCHED_OFF = "This service does not learn from outcomes: conformal.online is switched off."


async def take_outcomes(service: Dependencies, request: Request) -> Response:
    """Takes all outcomes of a list or none; raises RequestError and ValidationError."""
    limits, most = service.config.request, service.config.conformal.max_outcomes
    body = await read_body(request.receive, limits.max_body_bytes, limits.body_timeout_s)
    rate_limit_of(request.scope).admit(body_steps(body))
    outcomes = await _read(body, most, Pacer(service.clock))
    if service.learning is None:
        raise InvalidRequestError("", SWITCHED_OFF)
    counts = await service.learning.outcomes(outcomes)
    return Response(orjson.dumps(asdict(counts)), media_type="application/json")


async def _read(body: bytes, most: int, pacer: Pacer) -> list[Actual]:
    """Every outcome, read in slices up to the first error."""
    _, texts = await cut_body(body, "outcomes", OutcomesBody, most, pacer)
    outcomes: list[Actual] = []
    for number, text in enumerate(texts):
        if len(text) > AT_ONCE_BYTES:
            raise InvalidRequestError(f"outcomes.{number}", "This is too long for an outcome.")
        try:
            wire = OutcomeBody.model_validate_json(text)
        except ValidationError as error:
            raise of_part(error, "outcomes", number) from error
        outcomes.append(Actual(wire.market_id, wire.ts.timestamp(), wire.value))
        await pacer.rest()
    return outcomes
