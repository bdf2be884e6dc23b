"""Where the time of forecasts goes, from the times in their answers and those at the caller."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Any

import orjson

from loadtest.drills.harness import table
from loadtest.payloads import items_of

Timed = tuple[float, bytes]  # milliseconds at the caller, and the body of the answer
RuntimeMs = Callable[[float], float]  # of a call with so many series, to a runtime called directly
COLUMNS = {  # of the table, by the names of the numbers
    "series": "series a call",
    "caller_ms": "at the caller, ms",
    "http_ms": "HAProxy and client",
    "hop_ms": "Ingress, and the call to the Runner",
    "queue_ms": "queue",
    "runtime_ms": "the runtime itself",
    "around_ms": "around it, in the Runner",
}


def stages_of(answers: Iterable[Timed], runtime_ms: RuntimeMs) -> dict[str, float]:
    """Means of single forecasts in ms; all stages together take the time at the caller.

    Raises:
        RuntimeError: no forecast is by the model.
    """
    by_model = [(ms, meta) for ms, body in answers if _by_model(meta := _meta(orjson.loads(body)))]
    if not by_model:
        raise RuntimeError("the model gave no answer")
    found = [_stages(ms, meta, runtime_ms) for ms, meta in by_model]
    calls = sum(1 / meta["batch_size"] for _, meta in by_model)
    means = {name: mean(one[name] for one in found) for name in found[0]}
    return {"series": len(found) / calls, **means}


def _meta(forecast: Any) -> Mapping[str, Any]:
    return forecast["meta"] if forecast else {}


def _by_model(meta: Mapping[str, Any]) -> bool:
    return "queue_ms" in meta


def _stages(ms: float, meta: Mapping[str, Any], runtime_ms: RuntimeMs) -> dict[str, float]:
    alone_ms = runtime_ms(meta["batch_size"])
    return {
        "caller_ms": ms,
        "http_ms": ms - meta["latency_ms"],
        "hop_ms": meta["latency_ms"] - meta["queue_ms"] - meta["runtime_ms"],
        "queue_ms": meta["queue_ms"],
        "runtime_ms": alone_ms,
        "around_ms": meta["runtime_ms"] - alone_ms,
    }


def batch_stages(answer: Timed, count: int, runtime_ms: RuntimeMs) -> dict[str, float]:
    """The ms of one batch of ``count`` new markets: in its calls, around them, outside of them."""
    ms, body = answer
    metas = map(_meta, items_of(orjson.loads(body), count))
    calls = {(meta["runtime_ms"], meta["batch_size"]) for meta in metas if _by_model(meta)}
    in_calls_ms = sum(call_ms for call_ms, _ in calls)
    alone_ms = sum(runtime_ms(size) for _, size in calls)
    return {
        "runtime_ms": alone_ms,
        "around_ms": in_calls_ms - alone_ms,
        "outside_ms": ms - in_calls_ms,
    }


def stage_table(rounds: Sequence[Mapping[str, float]], loads: Iterable[int]) -> str:
    """Medians over rounds; the name of a number ends with ``_`` and the number of callers."""
    return table(
        {
            "callers": callers,
            **{
                column: f"{median(one[f'{name}_{callers}'] for one in rounds):.1f}"
                for name, column in COLUMNS.items()
            },
        }
        for callers in loads
        if any(f"series_{callers}" in one for one in rounds)
    )
