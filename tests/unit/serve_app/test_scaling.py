import pytest
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from runner.batching.dispatcher import QueueStats
from serve_app.scaling import CALLS_AT_ONCE, ITEMS, by_items, demand

RUNNER = DeploymentID(name="Runner", app_name="tsfm")


def context(
    *items: float, calls: float = 0, replicas: int = 2, calls_at_once: float = 100
) -> AutoscalingContext:
    """What Serve gives to a policy while each of some Runners holds so many items."""
    told = {ReplicaID(str(at), RUNNER): number for at, number in enumerate(items)}
    metrics = {ITEMS: told, CALLS_AT_ONCE: dict.fromkeys(told, calls_at_once)}
    return AutoscalingContext(
        RUNNER,
        RUNNER.name,
        RUNNER.app_name,
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=list(told),
        total_num_requests=calls,
        total_queued_requests=0,
        aggregated_metrics=metrics if told else {},
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=AutoscalingConfig(target_ongoing_requests=200),
    )


@pytest.mark.parametrize(
    ("items", "runners"), [((100, 100), 1.0), ((300, 500), 4.0), ((0, 0), 0.0), ((450,), 2.25)]
)
def test_runners_follow_the_items_they_hold(items: tuple[float, ...], runners: float) -> None:
    assert by_items(context(*items)) == (runners, {})


def test_calls_that_items_came_in_do_not_count() -> None:
    assert by_items(context(300, 300, calls=7)) == by_items(context(300, 300, calls=600))


def test_no_more_runners_than_runtime_calls_that_can_run_at_the_same_time() -> None:
    assert by_items(context(900, 900, calls_at_once=3)) == (3, {})


def test_number_of_runners_stays_while_none_has_reported() -> None:
    assert by_items(context(replicas=3, calls=900)) == (3, {})


def lane(*, queued: int = 0, turned_away: int = 0) -> QueueStats:
    return QueueStats(queued, 0, 0.0, 1, (), turned_away)


def test_a_runner_reports_refused_items_with_those_it_holds() -> None:
    lanes = [lane(queued=30, turned_away=200), lane(queued=5, turned_away=7)]

    assert demand(40, lanes, 2) == {ITEMS: 247, CALLS_AT_ONCE: 2}
