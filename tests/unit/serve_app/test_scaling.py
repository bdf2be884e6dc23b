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
    reported = {ReplicaID(str(at), RUNNER): number for at, number in enumerate(items)}
    metrics = {ITEMS: reported, CALLS_AT_ONCE: dict.fromkeys(reported, calls_at_once)}
    return AutoscalingContext(
        RUNNER,
        RUNNER.name,
        RUNNER.app_name,
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=list(reported),
        total_num_requests=calls,
        total_queued_requests=0,
        aggregated_metrics=metrics if reported else {},
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
    ("reported", "runners"),
    [
        (context(100, 100), 1.0),
        (context(300, 500), 4.0),
        (context(0, 0), 0.0),
        (context(450), 2.25),
        (context(300, 300, calls=600), 3.0),  # the number of calls has no effect
        (context(900, 900, calls_at_once=3), 3),
        (context(replicas=3, calls=900), 3),  # no Runner has reported
    ],
)
def test_runners_follow_the_reported_items(reported: AutoscalingContext, runners: float) -> None:
    assert by_items(reported) == (runners, {})


def test_runner_reports_refused_items_with_those_it_holds() -> None:
    queues = [QueueStats(queued, 0, 0.0, 1, (), refused) for queued, refused in ((30, 200), (5, 7))]

    assert demand(40, queues, 2) == {ITEMS: 247, CALLS_AT_ONCE: 2}
