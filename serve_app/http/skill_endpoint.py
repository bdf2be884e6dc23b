"""``GET /tsfm/skill``: how each model does beside the baseline, and what follows from it."""

from dataclasses import asdict
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from runner.calibration.coverage import SkillRow
from runner.calibration.miscoverage import Miscovers
from runner.calibration.routing import Advice, RoutedBy, pin_of
from runner.calibration.skill import Verdict
from runner.config.sections import Pin, RoutingMode, RoutingSection
from serve_app.http.responses import Count, Out, Probability
from serve_app.http.service import Dependencies

Share = Annotated[float, Field(le=1)]
Score = Annotated[float, Field(ge=0)]


class SkillItem(Out):
    """One model in one segment of markets, on forecasts that came true."""

    model: str = Field(description="What the runtime calls it.")
    segment: str
    forecasts: Count = Field(description="Scored ones; recent ones count more.")
    skill: Share | None = Field(
        description="1 - pinball loss / that of the baseline on the same windows; under 0: worse."
    )
    skill_low: float | None = Field(description="Its interval; null: under 20 forecasts.")
    skill_high: float | None
    coverage: Probability | None = Field(
        description="Share of outcomes between the outermost levels."
    )
    baseline_coverage: Probability | None
    interval_score: Score | None = Field(
        description="Mean interval score of the outermost levels, in probability: lower is better."
    )
    baseline_interval_score: Score | None
    brier: Probability | None = Field(
        description="Brier score of probability_above as answered; null: no caller sent thresholds."
    )
    baseline_brier: Probability | None = Field(
        description="That of the baseline's bands, which are not calibrated."
    )
    verdict: Verdict = Field(description="Whether the interval of the skill is on one side of 0.")
    routed: bool = Field(description="The baseline answers here where routing.mode is enforce.")
    routed_by: RoutedBy | None = Field(
        description="Why: a pin, the coverage of the model, its skill here, or that over all."
    )
    pinned: Pin | None = Field(description="What the configuration says must answer here.")


class SourceItem(Out):
    """A model, or the baseline, over all forecasts that came true."""

    source: str = Field(description="What the runtime calls it; `ewma` is the baseline.")
    advice: Advice | None = Field(
        description="promote: better than the baseline over all, and worse in no segment; drop: "
        "the reverse; null for the baseline."
    )
    calibrated_forecasts: Count = Field(description="Scored ones, of windows that moved.")
    calibrated_coverage: Probability | None = Field(
        description="Share of the last 50 forecasts' outcomes inside the calibrated interval."
    )
    miscovers: Miscovers | None = Field(
        description="under, over: there is evidence that this is not the target."
    )


class SkillAnswer(Out):
    """Every source, and every model and segment, in the order of their names."""

    mode: RoutingMode
    sources: list[SourceItem]
    skill: list[SkillItem]


async def show_skill(service: Dependencies, _: Request) -> Response:
    """The rows of all replicas as JSON; none where nothing is learned."""
    rows = skill_items(service)
    mode = service.config.routing.mode
    answer = SkillAnswer(mode=mode, sources=source_items(service), skill=rows)
    headers = {"cache-control": "no-store"}
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


def skill_items(service: Dependencies) -> list[SkillItem]:
    """A row for each model and segment."""
    rows = () if service.learning is None else service.learning.report.skill
    return [_item(row, service.config.routing) for row in rows]


def source_items(service: Dependencies) -> list[SourceItem]:
    """A row for each source."""
    rows = () if service.learning is None else service.learning.report.sources
    return [SourceItem(**asdict(row)) for row in rows]


def _item(row: SkillRow, routing: RoutingSection) -> SkillItem:
    figures, pinned = asdict(row.skill), pin_of(routing.pins, row.segment)
    by_pin = RoutedBy.PIN if pinned is Pin.BASELINE else None
    by = row.routed_by if pinned is None else by_pin
    return SkillItem(
        model=row.source,
        segment=row.segment,
        skill=figures.pop("value"),
        skill_low=figures.pop("low"),
        skill_high=figures.pop("high"),
        verdict=row.skill.verdict,
        routed=by is not None,
        routed_by=by,
        pinned=pinned,
        **figures,
    )
