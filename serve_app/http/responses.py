"""Answer bodies: pydantic models of what `forecast_endpoint` and the handlers write.

Forecasts are written as bytes, so most answers do not pass through these models at run time; the
OpenAPI document is built from them, and tests check every kind of answer against them.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from runner.config.registry import Covariates, LicenseTag, ServedModel
from runner.forecast.answers import WARNINGS
from runner.forecast.check import Breach, Severity
from runner.types import BreakerState, FallbackReason, Source, Space
from serve_app.http.errors import CODES

Probability = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Paths = dict[str, list[Probability]]
Code = Annotated[str, Field(json_schema_extra={"enum": sorted(CODES)})]
WarningName = Annotated[str, Field(json_schema_extra={"enum": list(WARNINGS)})]


class Out(BaseModel):
    """Part of an answer. Fields may be added within a major version: ignore unknown ones."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ErrorDetail(Out):
    """One wrong field."""

    path: str = Field(description="In dotted form, like `y.3`; empty for the body as a whole.")
    message: str


class Error(Out):
    """What went wrong, for programs (`code`) and people (`message`)."""

    code: Code = Field(description="More may be added: treat unknown ones as their status.")
    message: str
    detail: list[ErrorDetail] | SkipJsonSchema[None] = Field(
        None, description="The wrong fields, where there are such."
    )
    request_id: str | SkipJsonSchema[None] = Field(
        None, description="`X-Request-ID` or one of ours; absent in items of a batch."
    )


class ErrorAnswer(Out):
    """The body of every answer that is not a forecast."""

    error: Error


class TransformUsed(Out):
    """The space the series was modelled in."""

    space: Space
    eps: float


class AnswerMeta(Out):
    """Where the bands come from, and what happened on the way."""

    runtime: Source = Field(description="`tollama`: a model made the bands; `baseline`: the EWMA.")
    model_requested: str = Field(description="As asked for.")
    model_name: str = Field(description="What really ran.")
    model_version: str | None = Field(description="Its version where that is known.")
    input_len: Count = Field(description="Steps used.")
    gaps_filled: Count = Field(description="How many of them were filled forward.")
    transform: TransformUsed
    fallback_used: bool = Field(description="Whether this is not a fresh answer of the model.")
    fallback_reason: FallbackReason | None = Field(description="Why; more may be added.")
    warnings: list[WarningName] = Field(
        description="What was changed or dropped on the way; more may be added."
    )
    cache_stale: bool = Field(description="Whether a kept answer had expired.")
    covariates_ignored: list[str] | SkipJsonSchema[None] = Field(
        None, description="Covariates that the bands do not depend on; absent without covariates."
    )
    batch_size: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        None, description="Series in the model's call; absent when the baseline answered."
    )
    queue_ms: Milliseconds | SkipJsonSchema[None] = Field(
        None, description="Wait before the model's call; absent when the baseline answered."
    )
    runtime_ms: Milliseconds | SkipJsonSchema[None] = Field(
        None, description="Time of the model's call; absent when the baseline answered."
    )
    cache_hit: bool
    cache_age_s: Annotated[float, Field(ge=0)] | None = Field(
        description="How old a kept answer is; null for a new one."
    )
    circuit_breaker_state: BreakerState = Field(description="Of the model that was asked for.")
    latency_ms: Milliseconds = Field(description="From the first byte read to the answer.")


class LastStep(Out):
    """The calibrated band at the end of the horizon; nulls where there is no calibration."""

    q10: Probability | None
    q50: Probability | None
    q90: Probability | None
    target_coverage: Probability | None
    sample_size: Count | None = Field(description="Outcomes behind it.")
    segment: str | None = Field(description="Which forecasts they are of.")


class LearnedFigure(Out):
    """A figure from the outcomes of earlier forecasts of the same source."""

    value: Probability
    sample_size: Count = Field(description="Outcomes behind it; recent ones count more.")
    segment: str = Field(description="Which forecasts they are of.")


class CheckAnswer(Out):
    """The newest price against the band that was forecast without the newest steps."""

    price: Probability | None = Field(description="null: there is none in the newest step.")
    breach: Breach = Field(description="Which side of the outermost levels the price is on.")
    beyond_widths: Annotated[float, Field(ge=0)] = Field(
        description="Distance from the band in widths of the band; 0 inside."
    )
    run_steps: Count = Field(description="Newest steps that are outside on the same side.")
    severity: Severity = Field(description="breach: 1 step, run: 2 or more, holds: 12 or more.")
    p_value: LearnedFigure | None = Field(
        description="Two-sided: the share of earlier prices that were at least as far from their "
        "forecast, in widths of it; null: too few are known."
    )
    held_share: LearnedFigure | None = Field(
        description="The share of earlier breaches after which the price was still outside 11 "
        "steps later; null: too few are known."
    )


class ForecastAnswer(Out):
    """A path of `horizon_steps` values for each level: finite, inside [0, 1], ordered."""

    market_id: str
    as_of_ts: AwareDatetime = Field(description="In UTC.")
    freq: str
    horizon_steps: Annotated[int, Field(ge=1)]
    quantiles: list[float]
    yhat_q: Paths = Field(description="By level; the keys are `quantiles` as text.")
    yhat_q_conformal: Paths | None = Field(
        None, description="Calibrated paths, when they were asked for; null: no calibration."
    )
    conformal_last_step: LastStep | SkipJsonSchema[None] = Field(
        None, description="Their last step in short, when they were asked for."
    )
    probability_above: Paths | SkipJsonSchema[None] = Field(
        None, description="By threshold, when some were asked for: that the price is above it."
    )
    check: CheckAnswer | SkipJsonSchema[None] = Field(
        None, description="What the newest prices are, when that was asked for."
    )
    meta: AnswerMeta


class ItemOk(Out):
    """A request of a batch that was answered."""

    ok: ForecastAnswer


class ItemError(Out):
    """A request of a batch that was refused; the others are not affected."""

    error: Error


class BatchAnswer(Out):
    """One result for each request, in order."""

    results: list[ItemOk | ItemError]


class LineOk(ItemOk):
    """A line of an NDJSON answer; `index` counts the requests from 0."""

    index: Count


class LineError(ItemError):
    """A line of an NDJSON answer for a request that was refused."""

    index: Count


class ModelItem(Out):
    """A model this environment serves."""

    name: str
    runtime_name: str = Field(description="What the runtime calls it; `meta.model_name` says so.")
    aliases: list[str]
    version: str | None
    license: str = Field(description="SPDX identifier of the weights' licence.")
    license_tag: LicenseTag
    max_series_per_call: Count | None = Field(description="null: no limit.")
    max_context: Count | None = Field(description="Past points it looks at; null: no limit.")
    levels: list[float] | None = Field(description="Levels it gives; null: any, []: none.")
    level_range: list[float] | None = Field(
        None, description="The outermost reliable levels; null: any."
    )
    covariates: Covariates | None = Field(description="Covariates it uses; null: not known.")
    params: list[str] = Field(description="What `model.params` may set.")
    installed: bool | None = Field(
        None, description="Whether a runtime has it; null while no runtime answers."
    )
    note: str | None
    skill: float | None = Field(
        description="1 - pinball loss / that of the baseline: below 0 is worse; null: not measured."
    )
    skill_source: str | None = Field(description="Where the skill was measured.")


class ModelsAnswer(Out):
    """The models this environment serves."""

    models: list[ModelItem]


class BreakerAnswer(Out):
    """What an operator's command led to."""

    model: str = Field(description="What the runtime calls it.")
    state: BreakerState


class LiveAnswer(Out):
    """The process answers."""

    status: Literal["ok"]


class ReadyAnswer(Out):
    """Forecasts can be answered, if need be by the baseline."""

    status: Literal["ready"]
    breakers: dict[str, BreakerState] = Field(
        description="By runtime name, for the models asked for so far."
    )
    default_model: str = Field(description="What the runtime calls it.")
    default_model_installed: bool | None = Field(
        description="If false, requests that name no model get the baseline; null: not known."
    )


class Document(Out):
    """An OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    openapi: str


def models_answer(served: Sequence[ServedModel]) -> ModelsAnswer:
    """The answer with the list of models."""
    return ModelsAnswer(
        models=[
            ModelItem.model_validate(
                dict(model.entry)
                | {"aliases": list(model.aliases), "params": sorted(model.entry.allowed_params)}
            )
            for model in served
        ]
    )
