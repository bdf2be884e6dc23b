"""What follows from what is known of a model: which answers where, and what to do with it."""

import numpy as np
import pytest

from runner.calibration.miscoverage import CoverageTest, Miscovers
from runner.calibration.routing import Advice, RoutedBy, advice, pin_of, routed_by
from runner.calibration.skill import Paired, Verdict
from runner.config.sections import Pin
from tests.unit.runner.calibration.test_skill import scored


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ({"all": 0.5, "a": 0.5, "b": 1.0}, Advice.PROMOTE),
        ({"all": 0.5, "a": 0.5, "b": 2.0}, Advice.HOLD),
        ({"all": 2.0, "a": 2.0, "b": 1.0}, Advice.DROP),
        ({"all": 2.0, "a": 2.0, "b": 0.5}, Advice.HOLD),
        ({"all": 1.0, "a": 2.0}, Advice.HOLD),
        ({}, Advice.HOLD),
    ],
)
def test_advice_follows_the_verdict_over_all_unless_a_segment_contradicts(
    ratios: dict[str, float], expected: Advice
) -> None:
    known = {("m", name): Paired().after(scored(ratio, 200)) for name, ratio in ratios.items()}
    known["another", "a"] = Paired().after(scored(4.0 if expected is Advice.PROMOTE else 0.2, 200))

    assert advice(known, "m") is expected


def test_undecided_segment_follows_all_unless_its_own_interval_says_it_differs() -> None:
    wild = np.column_stack([np.tile([0.05, 0.001], 15), np.tile([0.01, 0.02], 15)])
    undecided = Paired().after(np.column_stack([wild, np.full((30, 6), 0.8)]))
    worse, alike = Paired().after(scored(2.0, 100)), Paired().after(scored(1.0, 300))
    known = {
        ("m", "all"): worse,
        ("m", "undecided"): undecided,
        ("m", "alike"): alike,
        ("m", "no loss"): Paired().after(np.zeros((30, 8))),
        ("m", "few"): Paired().after(scored(2.0, 5)),
        ("m", "worse"): worse,
    }

    assert {undecided.skill().verdict, alike.skill().verdict} == {Verdict.UNDECIDED}
    found = {segment: routed_by(known, {}, "m", segment) for _, segment in known}
    assert found == {
        "all": RoutedBy.SKILL,
        "worse": RoutedBy.SKILL,
        "undecided": RoutedBy.ALL,
        "few": RoutedBy.ALL,
        "alike": None,
        "no loss": None,
    }
    assert routed_by(known, {}, "m", "unknown") is RoutedBy.ALL
    assert routed_by({("m", "undecided"): undecided}, {}, "m", "undecided") is None
    assert routed_by(known, {}, "another", "unknown") is None


def test_coverage_counts_in_all_segments_of_its_model() -> None:
    tests = {"m": CoverageTest(90, 0.5, miscovers=Miscovers.UNDER), "other": CoverageTest()}

    assert routed_by({}, tests, "m", "unknown") is RoutedBy.COVERAGE
    assert routed_by({}, tests, "other", "unknown") is None


def test_pin_of_all_holds_where_a_segment_has_no_own_one() -> None:
    pins = {"all": Pin.MODEL, "a": Pin.BASELINE}

    assert (pin_of(pins, "a"), pin_of(pins, "b"), pin_of({}, "a")) == ("baseline", "model", None)
