"""Requests: reproducible, different and realistic; the faults of answers."""

from typing import Any

import orjson
import pytest

from loadtest.payloads import Shape, forecast_bodies, problem_of

SHAPE = Shape()


def series_of(body: bytes) -> list[float]:
    y: list[float] = orjson.loads(body)["y"]
    return y


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    assert forecast_bodies(3, SHAPE, 7) == forecast_bodies(3, SHAPE, 7)
    assert forecast_bodies(9, SHAPE, 7)[:3] == forecast_bodies(3, SHAPE, 7)
    assert not set(forecast_bodies(3, SHAPE, 7)) & set(forecast_bodies(3, SHAPE, 8))


GOOD = {"0.1": [0.1, 0.1], "0.5": [0.2, 0.2], "0.9": [0.3, 0.3]}


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        (GOOD, None),
        ({"0.10": [0.1, 0.1], "5e-1": [0.2, 0.2], "0.9": [0.3, 0.3]}, None),
        ({name: [0.0, 1.0] for name in GOOD}, None),
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
        (None, "not a forecast"),
    ],
)
def test_bad_bands_are_named_and_good_ones_are_not(bands: Any, words: str | None):
    problem = problem_of({"yhat_q": bands, "meta": {}}, 2, [0.1, 0.5, 0.9])

    assert words in (problem or "") if words else problem is None
