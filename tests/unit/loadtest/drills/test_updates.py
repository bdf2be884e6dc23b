"""The updates under load: versions to deploy, markets that come again, and pass or fail."""

from dataclasses import replace

import pytest

from loadtest.drills.harness import Sample
from loadtest.drills.updates import (
    OPEN,
    RESET,
    Row,
    failures,
)

LEARNED = [(float(at), 100 + at) for at in range(31)]


def sample(at_s: float, *, cached: bool = True, problem: str | None = None) -> Sample:
    return Sample(at_s, at_s + 0.1, problem, source="model", cached=cached)


COLD = [sample(at, cached=not 20 <= at < 30) for at in range(38)]


def row(**changes: object) -> Row:
    samples = [sample(at / 2, cached=at % 4 != 0) for at in range(60)]
    whole = Row("a setting", RESET, samples, LEARNED, 10.0, 15.0, ("closed", "0.1.0"))
    return replace(whole, **changes)  # type: ignore[arg-type]  # fields of a Row


def test_actual_values_are_counted_before_the_update_and_at_the_end() -> None:
    assert failures([row()]) == []
    assert row().outcomes == (110, 130)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples": [sample(1), sample(2, problem="status 500")]}, "1 of 2 bad (1 status 500)"),
        ({"samples": COLD}, "cold caches: 0% cache hits, 100% before"),
        ({"after": (OPEN, "1")}, "the breaker was carried, not reset"),
        ({"learned": [(1, 500), (30, 20)]}, "fell from 500 outcomes to 20"),
    ],
)
def test_each_broken_promise_fails(changes: dict[str, object], words: str) -> None:
    assert words in "; ".join(failures([row(**changes)]))
