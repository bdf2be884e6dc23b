"""How many Runners there should be: by the items that want one, not by the calls those came in.

Items share calls on their way to a Runner: from each ingress at most one in
``batching.share_calls_s``. Serve counts calls, so its own policy sees the same load whether a call
carries one item or fifty. Runners tell how many items they hold or could not take
(``record_autoscaling_stats``); Serve averages that over ``look_back_period_s``, and applies delays,
factors and bounds to what is decided here.
"""

from collections.abc import Iterable
from typing import Any

from ray.serve.config import AutoscalingContext

from runner.batching.dispatcher import QueueStats

ITEMS = "items"


def demand(in_hand: int, queues: Iterable[QueueStats]) -> dict[str, float]:
    """What a Runner reports: the items it holds, and those it refused.

    Under lasting overload queues are kept short (`runner.batching.batch_policy`), so the items held
    would never ask for another Runner. Refused items count as if they waited.
    """
    return {ITEMS: in_hand + sum(queue.turned_away for queue in queues)}


def by_items(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Runners enough for ``target_ongoing_requests`` items each, and no state to keep.

    As many as there are to be anyway while no Runner has told anything: it has just started, or
    Serve's controller has.
    """
    told = (context.aggregated_metrics or {}).get(ITEMS)
    if not told:
        return context.target_num_replicas, {}
    config: Any = context.config  # an AutoscalingConfig; Serve's type says less
    return sum(told.values()) / config.get_target_ongoing_requests(), {}
