from typing import Any

import pytest
from pydantic import ValidationError

from runner.config.conformal import ConformalSection, Dimension
from runner.config.loading import load_config
from tests.support.builders import ROOT, make_config

SETTINGS = {
    "enabled_by_default": False,
    "state_file": None,
    "target_coverage": 0.8,
    "online": True,
    "learned_file": None,
    "max_markets": 100,
}


def test_calibration_is_off_by_default() -> None:
    conformal = make_config().conformal

    assert (conformal.enabled_by_default, conformal.state_file) == (False, None)
    assert conformal.target_coverage == 0.8
    assert conformal.segments == (Dimension.LIQUIDITY, Dimension.WIDTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width_edges": [0.1, 0.01]}, r"width_edges\n.*must ascend"),
        ({"width_edges": [0.1, 0.1]}, r"width_edges\n.*must ascend"),
        ({"segments": ["width", "width"]}, "segments must not name a dimension twice"),
        ({"segments": ["colour"]}, "segments"),
        ({"min_samples": 8}, "min_samples must not be under 9: .* target_coverage of 0.8"),
        ({"target_coverage": 0.98, "min_samples": 98}, "min_samples must not be under 99"),
        ({"target_coverage": 1.0}, "target_coverage"),
        ({"online_rate": 0.0}, "online_rate"),
        ({"online_rate": 1.5}, "online_rate"),
        ({"rolling_points": 1}, "rolling_points"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ConformalSection.model_validate(SETTINGS | change)


def test_fewest_samples_that_can_hold_the_coverage_are_accepted() -> None:
    assert ConformalSection.model_validate(SETTINGS | {"min_samples": 9}).min_samples == 9


def test_state_file_is_found_beside_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSFM_CONFORMAL__STATE_FILE", "state/conformal.json")

    config = load_config(ROOT / "configs/local.yaml")

    assert config.conformal.state_file == ROOT / "state/conformal.json"


def test_state_file_can_be_switched_off_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TSFM_CONFORMAL__STATE_FILE", "null")

    assert load_config(ROOT / "configs/local.yaml").conformal.state_file is None
