import numpy as np
import pytest

from runner.calibration.calibrator import Calibrator
from runner.calibration.state import ConformalState, StepFactors
from runner.types import Bands
from tests.support.builders import make_bands, make_config, make_request

SETTINGS = make_config().conformal


def make_state(*segments: str, factor: float = 2.0) -> ConformalState:
    track = StepFactors(np.full((3, 2), factor), np.full(3, 500))
    return ConformalState(0.8, {"ewma": dict.fromkeys(segments, track)})


@pytest.mark.parametrize(
    ("said", "default", "expected"),
    [
        (None, False, False),
        (None, True, True),
        (True, False, True),
        (False, True, False),
    ],
)
def test_request_decides_and_the_configuration_fills_in(
    said: bool | None, default: bool, expected: bool
) -> None:
    settings = SETTINGS.model_copy(update={"enabled_by_default": default})

    assert Calibrator(settings).asked(make_request(conformal=said)) is expected


def test_forecast_belongs_to_its_bucket_and_its_width_first() -> None:
    request = make_request(liquidity_bucket="high")

    assert Calibrator(SETTINGS).segments(request, make_bands()) == (
        "liquidity=high|width=0.1..1",
        "width=0.1..1",
        "all",
    )


def test_width_is_that_of_the_last_step() -> None:
    growing = Bands(np.array([[0.499, 0.5, 0.501], [0.49, 0.5, 0.51], [0.4, 0.5, 0.6]]))

    assert Calibrator(SETTINGS).segments(make_request(), growing) == ("width=0.1..1", "all")


def test_levels_without_the_calibrated_interval_have_no_width() -> None:
    request = make_request(levels=(0.2, 0.5, 0.9))

    assert Calibrator(SETTINGS).segments(request, make_bands()) == ("all",)


def test_narrowest_known_segment_is_used() -> None:
    calibration = Calibrator(SETTINGS, make_state("width=0.1..1", "all"))

    adjusted = calibration.of(make_request(liquidity_bucket="high"), "ewma", make_bands())

    assert adjusted is not None
    assert adjusted.segment_used == "width=0.1..1"
    np.testing.assert_allclose(adjusted.paths[0, -1], [0.15, 0.45, 0.75])


def test_what_the_width_limits_did_is_not_stretched() -> None:
    meant = np.tile([0.449, 0.45, 0.452], (3, 1))
    limited = Bands(np.tile([0.44, 0.45, 0.46], (3, 1)), ("interval_widened",), meant)
    calibration = Calibrator(SETTINGS, make_state("width=0..0.01", "all"))

    adjusted = calibration.of(make_request(), "ewma", limited)

    assert adjusted is not None
    np.testing.assert_allclose(adjusted.paths[0, 0], [0.448, 0.45, 0.454])


def test_without_a_state_there_is_nothing() -> None:
    assert Calibrator(SETTINGS).of(make_request(), "ewma", make_bands()) is None
