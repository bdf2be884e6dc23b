"""Where the time of forecasts goes, from the times in their answers and those at the caller."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import mean, median
from typing import Any

import numpy as np
import orjson

from loadtest.drills.harness import table
from loadtest.payloads import items_of

Timed = tuple[float, bytes]  # milliseconds at the caller, and the body of the answer
RuntimeMs = Callable[[float], float]  # of a call with so many series, to a runtime called directly
COLUMNS = {  # of the table, by the names of the numbers
    "series": "series a call",
    "caller_ms": "at the caller, ms",
    "before_ms": "client, HAProxy, wait for the Ingress",
    "ingress_ms": "Ingress, and the call to the Runner",
    "queue_ms": "queue",
    "direct_ms": "a direct call to the runtime",
    "over_ms": "more than a direct call",
}


def direct_calls(one_ms: float, most: int, most_ms: float) -> RuntimeMs:
    """The time of a direct call, between the measured ones of 1 and of ``most`` series."""
    return partial(np.interp, xp=(1, most), fp=(one_ms, most_ms))


def stages_of(answers: Iterable[Timed], runtime_ms: RuntimeMs) -> dict[str, float]:
    """Means of new single forecasts by the model, in ms; nothing if there is none.

    All stages together take the time at the caller.
    """
    metas = [(ms, _meta(orjson.loads(body))) for ms, body in answers]
    by_model = [(ms, meta) for ms, meta in metas if _is_new(meta)]
    if not by_model:
        return {}
    found = [_stages(ms, meta, runtime_ms) for ms, meta in by_model]
    calls = sum(1 / meta["batch_size"] for _, meta in by_model)
    means = {name: mean(one[name] for one in found) for name in found[0]}
    return {"series": len(found) / calls, **means}


def _meta(forecast: Any) -> Mapping[str, Any]:
    return forecast["meta"] if forecast else {}


def _is_new(meta: Mapping[str, Any]) -> bool:
    """Whether the times are of a call for this request: a cached answer has those of an old one."""
    return "queue_ms" in meta and not meta["cache_hit"]


def _stages(ms: float, meta: Mapping[str, Any], runtime_ms: RuntimeMs) -> dict[str, float]:
    direct_ms = runtime_ms(meta["batch_size"])
    return {
        "caller_ms": ms,
        "before_ms": ms - meta["latency_ms"],
        "ingress_ms": meta["latency_ms"] - meta["queue_ms"] - meta["runtime_ms"],
        "queue_ms": meta["queue_ms"],
        "direct_ms": direct_ms,
        "over_ms": meta["runtime_ms"] - direct_ms,
    }


def batch_stages(answer: Timed, count: int, runtime_ms: RuntimeMs) -> dict[str, float]:
    """The ms of one batch of ``count`` new markets; nothing if the model answered none.

    Those of its calls, if they were direct ones; what its calls took beyond that; the rest.
    """
    ms, body = answer
    metas = map(_meta, items_of(orjson.loads(body), count))
    calls = {(meta["runtime_ms"], meta["batch_size"]) for meta in metas if _is_new(meta)}
    if not calls:
        return {}
    in_calls_ms = sum(call_ms for call_ms, _ in calls)
    direct_ms = sum(runtime_ms(size) for _, size in calls)
    return {
        "direct_ms": direct_ms,
        "over_ms": in_calls_ms - direct_ms,
        "rest_ms": ms - in_calls_ms,
    }


def stage_table(rounds: Sequence[Mapping[str, float]], loads: Iterable[int]) -> str:
    """Medians over rounds; the name of a number ends with ``_`` and the number of callers."""
    measured = [(c, [one for one in rounds if f"series_{c}" in one]) for c in loads]
    return table(
        {
            "callers": callers,
            **{
                column: f"{median(one[f'{name}_{callers}'] for one in found):.1f}"
                for name, column in COLUMNS.items()
            },
        }
        for callers, found in measured
        if found
    )
