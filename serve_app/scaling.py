"""How many Runners there should be: by the number of items, not of calls between replicas.

Items share calls on their way to a Runner: from each ingress at most one in
``batching.share_calls_s``. Serve counts calls, so its own policy sees the same load whether a call
carries one item or fifty. Each Runner reports its items (``record_autoscaling_stats``); Serve
averages that over ``look_back_period_s``, and applies delays, factors and bounds to the result.

There are at most as many Runners as runtime calls that can run at the same time. One more would
only queue its calls in a runtime, behind those of another Runner: batches become smaller, and
single requests wait for two calls.
"""

from collections.abc import Iterable
from math import inf
from typing import Any

from ray.serve.config import AutoscalingContext

from runner.batching.dispatcher import QueueStats

ITEMS = "items"
CALLS_AT_ONCE = "calls_at_once"


def demand(in_hand: int, queues: Iterable[QueueStats], calls_at_once: int) -> dict[str, float]:
    """What a Runner reports: its items, those it refused, and the runtimes' calls at one time.

    Under lasting overload queues are kept short (`runner.batching.batch_policy`), so the items held
    would never ask for another Runner. Refused items count as if they waited.
    """
    items = in_hand + sum(queue.turned_away for queue in queues)
    return {ITEMS: items, CALLS_AT_ONCE: calls_at_once}


def by_items(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Runners for ``target_ongoing_requests`` items each, at most one per concurrent runtime call.

    The number stays as it is while no Runner has reported: it, or Serve's controller, has just
    started. The second value is the policy's state: none.
    """
    metrics = context.aggregated_metrics or {}
    items = metrics.get(ITEMS)
    if not items:
        return context.target_num_replicas, {}
    config: Any = context.config  # an AutoscalingConfig; Serve's type says less
    wanted = sum(items.values()) / config.get_target_ongoing_requests()
    return min(wanted, max(metrics.get(CALLS_AT_ONCE, {}).values(), default=inf)), {}
