from hypothesis import given
from hypothesis import strategies as st

from runner.tollama.client import RetryBudget


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 20), st.floats(0, 1))
def test_retries_stay_under_the_capacity_and_the_share_of_successes(events, tokens, ratio):
    budget = RetryBudget(tokens=tokens, ratio=ratio)
    retries = 0
    for succeeded in events:
        if succeeded:
            budget.succeeded()
        else:
            budget.failed()
            retries += budget.allows_retry

    assert retries <= tokens / 2 + ratio * sum(events) + 1e-6
