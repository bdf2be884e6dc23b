"""Which bodies tollama's schema accepts, and the complaints it makes about the others.

``type``, ``loc``, texts and their order were observed on a tollama 0.1.0 daemon. A good body takes
one cheap pass; complaints are worked out only for the part that is wrong.
"""

from collections.abc import Callable, Mapping
from typing import Any

Loc = tuple[str | int, ...]
Complaint = dict[str, Any]
Rule = Callable[[Any, Loc], list[Complaint]]

_NUMBERS = frozenset({int, float})
_TEXTS = frozenset({str})
_KINDS = {"int": ("int_type", "integer"), "float": ("float_type", "number")}


def complaints_about(payload: Any) -> list[Complaint]:
    """Every complaint about a parsed body, in the order the real runtime gives them."""
    if payload is None:
        return [complaint("missing", ("body",), "Field required", None)]
    return _fields(payload, ("body",), _TOP, _TOP_REQUIRED) or _across_series(payload)


def covariate_kind(values: list[Any]) -> str:
    return "categorical" if type(values[0]) is str else "numeric"


def complaint(kind: str, loc: Loc, message: str, value: Any, **ctx: Any) -> Complaint:
    """One entry of ``detail``; like the real one it quotes the input back."""
    entry = {"type": kind, "loc": list(loc), "msg": message, "input": value}
    return {**entry, "ctx": ctx} if ctx else entry


def _value_error(loc: Loc, message: str, value: Any) -> Complaint:
    return complaint("value_error", loc, f"Value error, {message}", value, error=message)


def _fields(
    value: Any, loc: Loc, rules: Mapping[str, Rule], required: frozenset[str]
) -> list[Complaint]:
    if type(value) is not dict:
        text = "Input should be a valid dictionary or object to extract fields from"
        return [complaint("model_attributes_type", loc, text, value)]
    complaints = []
    for name, rule in rules.items():
        if name in value:
            complaints += rule(value[name], (*loc, name))
        elif name in required:
            complaints.append(complaint("missing", (*loc, name), "Field required", value))
    for name in (name for name in value if name not in rules):
        text = "Extra inputs are not permitted"
        complaints.append(complaint("extra_forbidden", (*loc, name), text, value[name]))
    return complaints


def _anything(_value: Any, _loc: Loc) -> list[Complaint]:
    return []


def _optional(rule: Rule) -> Rule:
    return lambda value, loc: [] if value is None else rule(value, loc)


def _text(value: Any, loc: Loc) -> list[Complaint]:
    if type(value) is not str:
        return [complaint("string_type", loc, "Input should be a valid string", value)]
    if not value:
        text = "String should have at least 1 character"
        return [complaint("string_too_short", loc, text, value, min_length=1)]
    return []


def _mapping(value: Any, loc: Loc) -> list[Complaint]:
    if type(value) is dict:
        return []
    return [complaint("dict_type", loc, "Input should be a valid dictionary", value)]


def _not_of_kind(kind: str, value: Any, loc: Loc) -> Complaint:
    name, noun = _KINDS[kind]
    return complaint(name, loc, f"Input should be a valid {noun}", value)


def _positive_count(value: Any, loc: Loc) -> list[Complaint]:
    if type(value) is not int:
        return [_not_of_kind("int", value, loc)]
    if value <= 0:
        return [complaint("greater_than", loc, "Input should be greater than 0", value, gt=0)]
    return []


def _positive_number(value: Any, loc: Loc) -> list[Complaint]:
    if type(value) not in _NUMBERS:
        return [_not_of_kind("float", value, loc)]
    if value <= 0:
        return [complaint("greater_than", loc, "Input should be greater than 0", value, gt=0.0)]
    return []


def _level(value: Any, loc: Loc) -> list[Complaint]:
    if complaints := _positive_number(value, loc):
        return complaints
    if value >= 1:
        return [complaint("less_than", loc, "Input should be less than 1", value, lt=1.0)]
    return []


def _quantiles(values: Any, loc: Loc) -> list[Complaint]:
    if type(values) is not list:
        return [complaint("list_type", loc, "Input should be a valid list", values)]
    if complaints := [c for i, value in enumerate(values) for c in _level(value, (*loc, i))]:
        return complaints
    if values != sorted(values):
        return [_value_error(loc, "quantiles must be sorted in ascending order", values)]
    if len(values) != len(set(values)):
        return [_value_error(loc, "quantiles must be unique", values)]
    return []


def _items(values: Any, loc: Loc) -> list[Complaint]:
    if type(values) is not list:
        return [complaint("list_type", loc, "Input should be a valid list", values)]
    if values:
        return []
    text = "List should have at least 1 item after validation, not 0"
    ctx = {"field_type": "List", "min_length": 1, "actual_length": 0}
    return [complaint("too_short", loc, text, values, **ctx)]


def _texts(values: Any, loc: Loc) -> list[Complaint]:
    if complaints := _items(values, loc):
        return complaints
    if all(values) and set(map(type, values)) == _TEXTS:
        return []
    return [c for i, value in enumerate(values) for c in _text(value, (*loc, i))]


def _numbers(values: Any, loc: Loc) -> list[Complaint]:
    if complaints := _items(values, loc):
        return complaints
    if set(map(type, values)) <= _NUMBERS:
        return []
    bad = ((i, value) for i, value in enumerate(values) if type(value) not in _NUMBERS)
    return [_not_of_kind(kind, value, (*loc, i, kind)) for i, value in bad for kind in _KINDS]


def _covariates(columns: Any, loc: Loc) -> list[Complaint]:
    if complaints := _mapping(columns, loc):
        return complaints
    return [c for name, values in columns.items() for c in _column(values, (*loc, name))]


def _column(values: Any, loc: Loc) -> list[Complaint]:
    if type(values) is not list:
        return [complaint("list_type", loc, "Input should be a valid list", values)]
    complaints = []
    for i, value in enumerate(values):
        if type(value) not in _NUMBERS | _TEXTS:
            complaints += [_not_of_kind(kind, value, (*loc, i, kind)) for kind in _KINDS]
            complaints += _text(value, (*loc, i, "str"))
    return complaints


def _series(values: Any, loc: Loc) -> list[Complaint]:
    if type(values) is not list:
        return [complaint("list_type", loc, "Input should be a valid list", values)]
    return [c for i, value in enumerate(values) for c in _one_series(value, (*loc, i))]


def _one_series(value: Any, loc: Loc) -> list[Complaint]:
    if complaints := _fields(value, loc, _SERIES, _SERIES_REQUIRED):
        return complaints
    message = _wrong_lengths(value)
    return [_value_error(loc, message, value)] if message else []


def _wrong_lengths(series: dict[str, Any]) -> str | None:
    points = len(series["timestamps"])
    if len(series["target"]) != points:
        return "target length must match timestamps length"
    for place in ("past_covariates", "future_covariates"):
        for name, values in (series.get(place) or {}).items():
            if not values:
                return f"{place}[{name!r}] must not be empty"
            if len({type(v) is str for v in values}) > 1:
                only = "must contain either only numeric values or only string values"
                return f"{place}[{name!r}] {only}"
            if place == "past_covariates" and len(values) != points:
                return f"{place}[{name!r}] length must match timestamps length"
    return None


def _across_series(payload: dict[str, Any]) -> list[Complaint]:
    if not payload.get("series"):
        if payload.get("data_url") is None:
            return [_value_error(("body",), "either series or data_url is required", payload)]
        return []
    if payload.get("data_url") is not None:
        return [_value_error(("body",), "series and data_url cannot be combined", payload)]
    messages = (_wrong_future(series, payload["horizon"]) for series in payload["series"])
    return [_value_error(("body",), message, payload) for message in messages if message][:1]


def _wrong_future(series: dict[str, Any], horizon: int) -> str | None:
    future = series.get("future_covariates") or {}
    past = series.get("past_covariates") or {}
    for name, values in future.items():
        if len(values) != horizon:
            return f"future_covariates[{name!r}] length must match horizon ({horizon})"
    for name in sorted(future.keys() - past.keys()):
        return (
            "future_covariates must also exist in past_covariates; "
            f"missing past values for covariate {name!r}"
        )
    for name in future:
        then, ahead = covariate_kind(past[name]), covariate_kind(future[name])
        if then != ahead:
            return (
                "covariate type must be consistent between past and future values; "
                f"covariate {name!r} has past={then} future={ahead}"
            )
    return None


_TOP: Mapping[str, Rule] = {
    "model": _text,
    "horizon": _positive_count,
    "modelfile": _optional(_text),
    "data_url": _optional(_text),
    "quantiles": _quantiles,
    "series": _series,
    "options": _mapping,
    "timeout": _optional(_positive_number),
    "ingest": _anything,
    "parameters": _mapping,
    "response_options": _mapping,
    "keep_alive": _anything,
}
_TOP_REQUIRED = frozenset({"model", "horizon"})
_SERIES: Mapping[str, Rule] = {
    "id": _text,
    "freq": _text,
    "timestamps": _texts,
    "target": _numbers,
    "actuals": _optional(_numbers),
    "past_covariates": _optional(_covariates),
    "future_covariates": _optional(_covariates),
    "static_covariates": _optional(_mapping),
}
_SERIES_REQUIRED = frozenset({"id", "timestamps", "target"})
