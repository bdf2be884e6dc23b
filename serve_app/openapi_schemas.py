"""JSON schemas for the OpenAPI document: from the wire models, with the configured limits laid in.

A wire model says what holds everywhere; what an operator can set stands in the configuration, and
is added here to the property it limits.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import DefsRef, GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from runner.config import Config
from serve_app.schemas import MIN_LEVEL

Schema = dict[str, Any]

PUBLIC_NAMES: Mapping[str, str] = {
    "ForecastWire": "ForecastRequest",
    "BatchWire": "BatchRequest",
    "BreakerCommandWire": "BreakerCommand",
    "OutcomesWire": "OutcomesRequest",
    "OutcomeWire": "Outcome",
    "ModelWire": "ModelChoice",
    "TransformWire": "TransformChoice",
}


class _Generator(GenerateJsonSchema):
    """Names that say something to callers, and no titles that repeat them."""

    def normalize_name(self, name: str) -> str:
        normal = super().normalize_name(name)
        return PUBLIC_NAMES.get(normal, normal)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:  # says no more than that it can be left out
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def schemas_of(models: Sequence[type[BaseModel]], config: Config) -> dict[str, Schema]:
    """The schema of each model and of all they are made of, by public name."""
    schemas: dict[str, Schema] = orjson.loads(_unlimited(tuple(models)))
    for name, properties in _limits(config).items():
        for prop, extra in properties.items():
            _add(schemas[name]["properties"][prop], extra)
    return schemas


@cache  # a service needs it once, a test run for each of its hundreds of services
def _unlimited(models: tuple[type[BaseModel], ...]) -> bytes:
    _, document = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Generator,
    )
    for schema in document["$defs"].values():
        schema.pop("title", None)
    return orjson.dumps(document["$defs"])


def ref(model: type[BaseModel]) -> Schema:
    """A reference to a model's schema."""
    name = DefsRef(PUBLIC_NAMES.get(model.__name__, model.__name__))
    return {"$ref": f"#/components/schemas/{name}"}


def _limits(config: Config) -> Mapping[str, Mapping[str, Schema]]:
    request, transform = config.request, config.transform
    level = {"minimum": MIN_LEVEL, "maximum": 1 - MIN_LEVEL}
    levels = {"maxItems": request.max_levels, "uniqueItems": True, "items": level}
    return {
        "ForecastRequest": {
            "freq": {"default": request.freq},
            "horizon_steps": {
                "maximum": request.max_horizon_steps,
                "default": request.horizon_steps,
            },
            "quantiles": {**levels, "default": list(request.quantiles)},
            "y": {"maxItems": request.max_points, "items": {"minimum": 0, "maximum": 1}},
            "y_ts": {"maxItems": request.max_points},
            "x_past": {"maxProperties": request.max_covariates},
            "x_future": {"maxProperties": request.max_covariates},
            "max_gap_minutes": {"default": request.max_gap_minutes},
            "liquidity_bucket": {"examples": list(config.fallback.baseline_only_liquidity)},
        },
        "BatchRequest": {
            "requests": {"maxItems": request.max_batch_requests},
            "deadline_ms": {"default": request.batch_deadline_ms},
        },
        "OutcomesRequest": {"outcomes": {"maxItems": config.conformal.max_outcomes}},
        "ModelChoice": {"model_name": {"default": request.model}},
        "TransformChoice": {
            "space": {"default": transform.space.value},
            "eps": {"default": transform.eps},
        },
    }


def _add(schema: Schema, extra: Schema) -> None:
    """Lays ``extra`` into the part of ``schema`` that is not null; a default holds for all."""
    part = schema["anyOf"][0] if "anyOf" in schema else schema
    for key, value in extra.items():
        if key == "items":
            _add(part["items"], value)
        elif key in ("default", "examples"):
            schema[key] = value
        else:
            part[key] = value
