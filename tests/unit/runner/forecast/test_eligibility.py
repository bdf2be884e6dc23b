import numpy as np
import pytest

from runner.forecast.resolved_request import ineligible_reason, regularise
from runner.types import FallbackReason
from tests.support.builders import make_config, make_registry, make_request, walk

FALLBACK = make_config().fallback
REGISTRY = make_registry()


def judge(
    y: np.ndarray, bucket: str | None = None, gap_minutes: float = 60.0
) -> FallbackReason | None:
    return judge_for("fracast-0", y, liquidity_bucket=bucket, max_gap_minutes=gap_minutes)


def judge_for(model: str, y: np.ndarray, **changes: object) -> FallbackReason | None:
    request = make_request(y_prob=y, **changes)
    series = regularise(y, None, {}, step_s=300, max_steps=288)
    return ineligible_reason(request, series, REGISTRY.models[model], FALLBACK)


def test_lively_series_suits_the_model() -> None:
    assert judge(walk(32)) is None


def test_thirty_one_points_are_too_few() -> None:
    assert judge(walk(31)) is FallbackReason.TOO_FEW_POINTS


def test_filled_steps_are_not_points() -> None:
    y = walk(33)
    y[[5, 9]] = np.nan

    assert judge(y) is FallbackReason.TOO_FEW_POINTS


def test_low_liquidity_is_for_the_baseline() -> None:
    assert judge(walk(100), bucket="low") is FallbackReason.LOW_LIQUIDITY
    assert judge(walk(100), bucket="high") is None


@pytest.mark.parametrize(("missing", "reason"), [(12, None), (13, FallbackReason.GAP_TOO_LONG)])
def test_gap_of_an_hour_is_filled_and_a_longer_one_is_not(
    missing: int, reason: FallbackReason | None
) -> None:
    y = walk(100)
    y[40 : 40 + missing] = np.nan

    assert judge(y) is reason


def test_caller_may_allow_less_than_the_default_gap() -> None:
    y = walk(100)
    y[40] = np.nan

    assert judge(y, gap_minutes=0.0) is FallbackReason.GAP_TOO_LONG


@pytest.mark.parametrize(
    ("model", "levels", "reason"),
    [
        ("timesfm-2.5-200m", (0.1, 0.5, 0.9), None),
        ("timesfm-2.5-200m", (0.05, 0.5), FallbackReason.LEVELS_NOT_SUPPORTED),
        ("granite-ttm-r2", (0.5,), FallbackReason.LEVELS_NOT_SUPPORTED),
        ("chronos2", (0.05, 0.5), None),
    ],
)
def test_levels_that_the_model_does_not_give_cost_no_call(
    model: str, levels: tuple[float, ...], reason: FallbackReason | None
) -> None:
    assert judge_for(model, walk(100), levels=levels) is reason
