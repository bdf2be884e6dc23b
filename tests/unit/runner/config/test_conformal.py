from typing import Any

import pytest
from pydantic import ValidationError

from runner.config.conformal import ConformalSection

SETTINGS = {
    "enabled_by_default": False,
    "state_file": None,
    "target_coverage": 0.8,
    "online": True,
    "learned_file": None,
    "max_markets": 100,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width_edges": [0.1, 0.01]}, r"width_edges\n.*must ascend"),
        ({"width_edges": [0.1, 0.1]}, r"width_edges\n.*must ascend"),
        ({"segments": ["width", "width"]}, "segments must not name a dimension twice"),
        ({"segments": ["colour"]}, "segments"),
        ({"min_samples": 8}, "min_samples must not be under 9: .* target_coverage of 0.8"),
        ({"target_coverage": 0.98, "min_samples": 98}, "min_samples must not be under 99"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        ConformalSection.model_validate(SETTINGS | change)


def test_fewest_samples_that_can_hold_the_coverage_are_accepted() -> None:
    assert ConformalSection.model_validate(SETTINGS | {"min_samples": 9}).min_samples == 9
