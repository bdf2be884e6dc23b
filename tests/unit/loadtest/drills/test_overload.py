"""The overload: when requests leave, how the rate is found, the order of shedding, pass or fail."""

from dataclasses import replace

import pytest

from loadtest.drills.harness import Sample
from loadtest.drills.overload import (
    BATCH,
    INTERACTIVE,
    Row,
    failures,
    is_sustained,
    rows_of,
)

MODEL = Sample(0.0, 0.1, source="model")
SHED = Sample(0.0, 0.01, source="baseline", reason="overloaded")
LATE = Sample(0.0, 1.4, source="baseline", reason="deadline_exceeded")
REFUSED = Sample(0.0, 0.01, "status 429")


def rows(interactive: list[Sample], batch: list[Sample], *, retry_after: bool = True) -> list[Row]:
    kinds = [(INTERACTIVE, s) for s in interactive] + [(BATCH, s) for s in batch]
    return rows_of("3x", [replace(s, kind=kind, retry_after=retry_after) for kind, s in kinds])


def broken(found: list[Row]) -> str:
    return "; ".join(failures(found))


def test_a_load_is_sustained_when_all_have_the_models_answer_in_time():
    slow = Sample(0.0, 0.5, source="model")

    def sustained(interactive: list[Sample], batch: list[Sample], seconds: float = 3.0) -> bool:
        return is_sustained(rows(interactive, batch), seconds)

    assert sustained([MODEL] * 100, [MODEL, slow])
    assert sustained([MODEL], [])
    assert not sustained([MODEL] * 100, [MODEL, slow], seconds=1.4)
    assert not sustained([MODEL] * 98 + [SHED] * 2, [MODEL])
    assert not sustained([MODEL], [SHED])
    assert not sustained([MODEL, slow], [MODEL])
    assert not sustained([MODEL] * 200 + [REFUSED], [MODEL])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (rows([MODEL] * 8 + [SHED] + [REFUSED], [MODEL] + [SHED] * 3), ""),
        (
            rows([MODEL, SHED], [MODEL]),
            "3x: interactive requests are shed before batch items (50% against 0%)",
        ),
        (
            rows([MODEL, REFUSED], [SHED]),
            "3x: requests are refused before any is given to the baseline",
        ),
        (
            rows([SHED, REFUSED], [SHED], retry_after=False),
            "3x: interactive: 1 of 1 refused without Retry-After",
        ),
        (
            rows([MODEL, LATE], [SHED]),
            "3x: interactive: p95 1400 ms is over 300 ms",
        ),
        (
            rows([MODEL] * 99 + [Sample(0, 1.6, source="model")], [SHED]),
            "3x: interactive: an answer took 1600 ms",
        ),
        (
            rows([MODEL, Sample(0, 0.1, "quantiles cross")], [SHED]),
            "3x: interactive: 1 of 2 bad (1 quantiles cross)",
        ),
        (
            rows([MODEL], [Sample(0, 61, source="model")]),
            "3x: batch: a batch took 61.0 s of 60 s",
        ),
    ],
)
def test_each_broken_promise_is_named(found: list[Row], words: str):
    assert broken(found) == words
