"""What is known of a model beside the baseline, and what follows from it."""

from itertools import pairwise

import numpy as np
import pytest

from runner.calibration.skill import (
    LEAST_FORECASTS,
    Paired,
    Verdict,
    skill_segment,
)


def scored(ratio: float, forecasts: int, seed: int = 0) -> np.ndarray:
    """Losses of a model and of the baseline on forecasts of very different difficulty."""
    chance = np.random.default_rng(seed)
    hard = chance.lognormal(-5, 1, forecasts)
    both = hard[:, None] * chance.lognormal(0, 0.3, (forecasts, 2))
    rest = np.tile([0.8, 0.8, 0.09, 0.06, np.nan, np.nan], (forecasts, 1))
    return np.column_stack([both * [ratio, 1.0], rest])


def one_by_one(rows: np.ndarray) -> list[Paired]:
    paired, found = Paired(), []
    for row in rows:
        paired = paired.after(row[None])
        found.append(paired)
    return found


def test_equal_models_are_switched_in_at_most_one_of_a_hundred_runs() -> None:
    wrong = [any(p.routed for p in one_by_one(scored(1.0, 300, seed))) for seed in range(100)]

    assert sum(wrong) <= 1


@pytest.mark.parametrize(("ratio", "verdict"), [(0.5, Verdict.BETTER), (2.0, Verdict.WORSE)])
def test_clearly_better_or_worse_model_is_known_within_300_forecasts(
    ratio: float, verdict: Verdict
) -> None:
    known = [one_by_one(scored(ratio, 300, seed))[-1] for seed in range(20)]

    assert {p.skill().verdict for p in known} == {verdict}
    assert {p.routed for p in known} == {verdict is Verdict.WORSE}


def test_figures_are_the_ratio_of_losses_with_an_interval_around_it() -> None:
    skill = Paired().after(scored(2.0, 200)).skill()

    assert skill.value == pytest.approx(-1.0, abs=0.2)
    assert (skill.low or 0) < (skill.value or 0) < (skill.high or 0) < 0
    assert skill.forecasts == 200
    assert skill.coverage == pytest.approx(0.8)
    assert skill.interval_score == pytest.approx(0.09)
    assert skill.baseline_interval_score == pytest.approx(0.06)


def test_brier_scores_are_those_of_the_forecasts_with_thresholds() -> None:
    without = scored(1.0, 20)
    with_them = without.copy()
    with_them[:, 6:] = [0.25, 0.1]
    skill = Paired().after(np.concatenate([without, with_them])).skill()

    assert [skill.brier, skill.baseline_brier] == pytest.approx([0.25, 0.1])
    assert Paired().after(without).skill().brier is None


def test_interval_of_a_skill_ends_at_one() -> None:
    few = np.column_stack([np.tile([0.0, 0.02], 20), np.tile([0.01, 0.9], 20)])
    rows = np.column_stack([few, np.full((40, 4), 0.8), np.full((40, 2), np.nan)])

    assert Paired().after(rows).skill().high == 1.0


def test_older_forecasts_count_less() -> None:
    skill = Paired().after(np.concatenate([scored(2.0, 2000), scored(0.5, 4000, seed=1)])).skill()

    assert skill.forecasts == 6000
    assert (skill.value or 0) > 0.2  # with equal weights it would be near 0


def test_too_few_forecasts_have_no_verdict() -> None:
    few = one_by_one(np.tile([0.3, 0.1, 1.0, 1.0, 0.5, 0.3, 0.2, 0.1], (LEAST_FORECASTS, 1)))

    assert {p.skill().verdict for p in few[:-2]} == {Verdict.UNDECIDED}
    assert few[0].skill().low is None
    assert Paired().skill().value is None
    assert Paired().after(np.zeros((30, 8))).skill().verdict is Verdict.UNDECIDED  # no loss at all


def test_routed_segment_goes_back_when_the_model_is_better_on_average() -> None:
    worse, better = scored(2.0, 100), scored(0.4, 400, seed=1)
    states = one_by_one(np.concatenate([worse, better]))
    switched = [a.routed != b.routed for a, b in pairwise(states)]

    assert sum(switched) == 2
    assert states[100].routed
    assert not states[-1].routed


def test_segment_names_activity_price_step_and_liquidity() -> None:
    still, lively = np.full(100, 0.98), np.tile([0.4, 0.41], 50)
    some = np.concatenate([np.full(90, 0.1), np.linspace(0.1, 0.15, 10)])

    assert skill_segment(still, "1h", None) == "activity=few|price=edge|freq=1h"
    assert skill_segment(some, "5m", None) == "activity=some|price=side|freq=5m"
    assert skill_segment(lively, "5m", "high") == (
        "activity=many|price=middle|freq=5m|liquidity=high"
    )
    closing = [skill_segment(still, "1h", "high", s) for s in (3599, 86_399, 1e9)]
    assert [one.split("|")[3:] for one in closing] == [
        ["closes=hour", "liquidity=high"],
        ["closes=day", "liquidity=high"],
        ["closes=later", "liquidity=high"],
    ]
    assert skill_segment(np.full(3, np.nan), "5m", None).startswith("activity=few|price=middle")
