"""Wire models of ``POST /tsfm/outcomes``: actuals in, what became of them out."""

from typing import Annotated, Any

from pydantic import Field

from runner.calibration.forecast_record import Actual
from serve_app.http.requests import Name, StrictBody, Timestamp
from serve_app.http.responses import Count, Out

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


class LooseOutcomesWire(StrictBody):
    """Outcomes that are looked at one by one."""

    outcomes: list[Any]


class OutcomesAnswer(Out):
    """What became of the outcomes of one call: `accepted` is `scored` and `unknown` together."""

    accepted: Count
    scored: Count = Field(description="Those that some forecast had waited for.")
    unknown: Count = Field(
        description="Ignored: nothing was forecast for that market and time, or it was scored."
    )
    points: Count = Field(description="Steps of forecasts that were scored, several for a time.")


def to_outcome(wire: OutcomeBody) -> Actual:
    """The outcome in the runner's own type."""
    return Actual(wire.market_id, wire.ts.timestamp(), wire.value)
