"""An answer is good when its bands are, whatever its status says."""

from typing import Any

import pytest

from loadtest.answers import problem_of, read

GOOD = {"0.1": [0.1, 0.1], "0.5": [0.2, 0.2], "0.9": [0.3, 0.3]}


def problem(bands: Any, meta: Any = ()) -> str | None:
    return problem_of({"yhat_q": bands, "meta": dict(meta)}, 2, [0.1, 0.5, 0.9])


def test_ordered_bands_of_the_right_size_are_good():
    assert problem(GOOD) is None


def test_levels_are_matched_by_number():
    assert problem({"0.10": [0.1, 0.1], "5e-1": [0.2, 0.2], "0.9": [0.3, 0.3]}) is None


def test_touching_quantiles_are_good():
    assert problem({name: [0.0, 1.0] for name in GOOD}) is None


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ({"0.1": [0.1, 0.1], "0.5": [0.2, 0.2]}, "levels"),
        ({**GOOD, "0.99": [0.4, 0.4]}, "levels"),
        ({**GOOD, "0.5": [0.2]}, "horizon"),
        ({**GOOD, "0.5": [0.2, None]}, "probability"),
        ({**GOOD, "0.9": [0.3, 1.01]}, "probability"),
        ({**GOOD, "0.1": [-0.01, 0.1]}, "probability"),
        ({**GOOD, "0.9": [0.3, float("nan")]}, "probability"),
        ({**GOOD, "0.5": [0.2, "0.2"]}, "probability"),
        ({**GOOD, "0.5": [0.2, 0.31]}, "cross"),
        ([], "not a forecast"),
    ],
)
def test_bad_bands_are_named(bands: Any, words: str):
    assert words in (problem(bands) or "")


@pytest.mark.parametrize("answer", [None, [], {"yhat_q": GOOD}, {"error": {}}])
def test_what_is_no_forecast_is_said_to_be_none(answer: Any):
    assert problem_of(answer, 2, [0.1, 0.5, 0.9]) == "not a forecast"


def test_what_is_not_json_reads_as_nothing():
    assert read(b"{") is None
    assert read(b'{"a":1}') == {"a": 1}
