"""Finds faults of an answer: status 200 alone does not prove that its bands are valid."""

import math
import operator
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import orjson


def read(body: bytes) -> Any:
    """The JSON in a body, or None where there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def problem_of(answer: Any, horizon: int, levels: Sequence[float]) -> str | None:
    """The first thing wrong with a forecast: a level, its length, a value, or their order."""
    bands = answer.get("yhat_q") if isinstance(answer, Mapping) else None
    if not isinstance(bands, Mapping) or not isinstance(answer.get("meta"), Mapping):
        return "not a forecast"
    paths = {float(level): path for level, path in bands.items()}
    if sorted(paths) != sorted(levels):
        return "levels differ from those asked for"
    ordered = [paths[level] for level in sorted(paths)]
    if any(len(path) != horizon for path in ordered):
        return "a path is not as long as the horizon"
    if not all(_is_probability(value) for path in ordered for value in path):
        return "a value is not a probability"
    if any(any(map(operator.gt, below, above)) for below, above in pairwise(ordered)):
        return "quantiles cross"
    return None


def batch_problem_of(answer: Any, count: int, horizon: int, levels: Sequence[float]) -> str | None:
    """The first thing wrong with a batch: one good forecast for each request, in its place."""
    results = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(results, list) or len(results) != count:
        return "not one result for each request"
    for index, result in enumerate(results):
        if problem := problem_of(result.get("ok"), horizon, levels):
            return f"result {index}: {problem}"
    return None


def read_lines(body: bytes) -> Any:
    """A batch sent as NDJSON in the form it has as JSON, or None where a line is none of its."""
    lines = [read(line) for line in body.splitlines()]
    if not all(isinstance(line, Mapping) and isinstance(line.get("index"), int) for line in lines):
        return None
    return {"results": sorted(lines, key=operator.itemgetter("index"))}


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1
