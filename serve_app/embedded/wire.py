"""tollama's JSON for the embedded runtime: valid requests, answers and errors.

The rules are tollama's, so that both refuse the same requests. Fields that make the real daemon
read files or change models (``data_url``, ``modelfile``, ``ingest``) do not exist here.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from runner.types import FloatArray

Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Level = Annotated[float, Field(gt=0, lt=1)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SeriesWire(_Wire):
    """One series; covariates are checked and then ignored: the model does not use them."""

    id: Text
    freq: Text = "auto"
    timestamps: Annotated[list[Text], Field(min_length=1)]
    target: Annotated[list[Number], Field(min_length=1)]
    past_covariates: dict[Text, list[Number]] | None = None
    future_covariates: dict[Text, list[Number]] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.target) != len(self.timestamps):
            raise ValueError("target length must match timestamps length")
        past = (self.past_covariates or {}).values()
        if any(len(values) != len(self.timestamps) for values in past):
            raise ValueError("past_covariates length must match timestamps length")
        return self


class ForecastWire(_Wire):
    """One call. ``options`` and ``timeout`` are accepted and ignored."""

    model: Text
    horizon: Annotated[int, Field(gt=0, le=10_000)]
    quantiles: list[Level] = []
    series: Annotated[list[SeriesWire], Field(min_length=1)]
    options: dict[Text, Any] = {}
    timeout: Annotated[float, Field(gt=0)] | None = None

    @field_validator("quantiles")
    @classmethod
    def _check_quantiles(cls, value: list[float]) -> list[float]:
        if value != sorted(value):
            raise ValueError("quantiles must be sorted in ascending order")
        if len(value) != len(set(value)):
            raise ValueError("quantiles must be unique")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for series in self.series:
            past, future = series.past_covariates or {}, series.future_covariates or {}
            if any(len(values) != self.horizon for values in future.values()):
                raise ValueError("future_covariates length must match horizon")
            if future.keys() - past.keys():
                raise ValueError("future_covariates must also exist in past_covariates")
        return self


def refusal_of(exc: ValidationError) -> list[dict[str, Any]]:
    """The ``detail`` of a 400: each error with its path in the body, without the input."""
    faults = exc.errors(include_url=False, include_context=False, include_input=False)
    return [{**fault, "loc": ["body", *fault["loc"]]} for fault in faults]


def series_refusal(index: int, message: str) -> list[dict[str, Any]]:
    """The ``detail`` of a 400 for one series that the model cannot forecast."""
    loc = ["body", "series", index, "target"]
    return [{"type": "value_error", "loc": loc, "msg": f"Value error, {message}"}]


def answer_of(wire: ForecastWire, rows: FloatArray, inference_ms: float) -> dict[str, Any]:
    """The body of a 200; ``rows`` is ``(B, 1 + Q, H)``; the first row, the median, is the mean."""
    forecasts = [_forecast_of(s, wire.quantiles, rows[i]) for i, s in enumerate(wire.series)]
    ignored = any(series.past_covariates for series in wire.series)
    return {
        "model": wire.model,
        "forecasts": forecasts,
        "metrics": None,
        "timing": {"model_load_ms": 0.0, "inference_ms": inference_ms, "total_ms": inference_ms},
        "usage": {"runner": "embedded", "series_count": len(forecasts), "horizon": wire.horizon},
        "warnings": ["covariates are ignored by this model"] if ignored else None,
    }


def _forecast_of(series: SeriesWire, levels: Sequence[float], rows: FloatArray) -> dict[str, Any]:
    keyed = {f"{level:g}": row for level, row in zip(levels, rows[1:], strict=True)}
    return {
        "id": series.id,
        "freq": series.freq,
        "start_timestamp": series.timestamps[-1],
        "mean": rows[0],
        "quantiles": keyed or None,
    }
