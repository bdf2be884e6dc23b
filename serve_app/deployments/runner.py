"""The Ray Serve deployment Runner."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, suppress
from typing import Any

from opentelemetry.trace import Tracer
from ray import serve

from runner.batching.batch_call import BatchCall, BatchItem, ItemResult
from runner.batching.dispatcher import Dispatcher
from runner.batching.item_router import ItemRouter, ReplicaRank, Runtimes, RuntimeTarget
from runner.breaker.state_machine import Breakers
from runner.config.loading import Config
from runner.config.registry import Registry
from runner.forecast.answers import ModelOutcome
from runner.tollama.client import TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.tollama.models import RuntimeModels
from runner.types import BreakerCommand, BreakerState, ModelRequest
from serve_app.deployments.actors import BREAKER
from serve_app.deployments.replica import set_up_replica
from serve_app.remote.breaker_client import BreakerClient
from serve_app.remote.clients import ReconnectingActor
from serve_app.remote.shared_calls import ItemBatch, ItemTasks
from serve_app.remote.shared_calls import NumberedAnswers as Parts
from serve_app.scaling import demand
from serve_app.telemetry.recorder import Flusher, RaySink, Recorder
from serve_app.telemetry.request_metrics import Call, QueueGauges, metered, usage_metrics
from serve_app.telemetry.tracing import ItemForecast, forward, traced_call, traced_item

# For the runtimes to answer, and for the first forecasts of the wanted models. It is shorter than
# the ingress waits for a Runner (`serve_app.remote.clients.WARM_UP_LIMIT_S`); a model that takes
# longer loads in the background.
READY_WITHIN_S = 4.0


@serve.deployment
class Runner:
    """Batches items into runtime calls.

    ``@serve.batch`` only collects what arrives together; its answer for each item is a future of
    the dispatcher, so that no item waits for another one and every item has its own error.
    """

    async def __init__(  # type: ignore[misc] # Serve awaits it before the replica is ready
        self, config: Config, registry: Registry, wanted: Collection[str]
    ) -> None:
        tracer = set_up_replica(config)
        recorder = Recorder()
        self._queues = QueueGauges(recorder)
        self._flusher = Flusher(recorder, RaySink(), self._update_gauges)
        batching, tollama = config.batching, config.tollama
        self._calls_at_once = len(tollama.base_urls) * batching.slots_per_model
        name = serve.get_replica_context().replica_tag
        self._runtimes = runtimes = Runtimes(len(tollama.base_urls), _replica_rank)
        self._breakers = BreakerClient(
            Breakers(config.circuit_breaker, random.random, name),
            ReconnectingActor(lambda: serve.get_deployment_actor(BREAKER)).call,
            config.circuit_breaker,
            time.monotonic,
        )
        self._models: list[RuntimeModels] = []
        calls = []
        served = [model.entry.runtime_name for model in registry.served(config.environment)]
        for i, url in enumerate(tollama.base_urls):
            http = RuntimeHttp(tollama, url, prepare=None if tracer is None else forward)
            runtime = TollamaRuntime(
                http,
                tollama,
                sleep=asyncio.sleep,
                clock=time.monotonic,
                on_usage=usage_metrics(recorder),
            )
            self._models.append(RuntimeModels(http, runtime, served, wanted))
            calls.append(_measured(self._call(config, i, runtime), recorder, tracer))
        self._dispatcher: Dispatcher[RuntimeTarget, BatchItem, ItemResult] = Dispatcher(
            lambda target, items: calls[target.runtime](target.key, items),
            queue_of=lambda route: route.queue_name,
            batch_limit=lambda route: registry.batch_limit(
                route.key.model, batching.max_batch_size
            ),
            max_batch_bytes=tollama.max_request_bytes,
            settings=batching,
            lease_s=tollama.lease_s,
            clock=time.monotonic,
        )
        self._router = ItemRouter(
            self._dispatcher, runtimes, self._breakers, config.cache, time.monotonic, random.random
        )
        item: ItemForecast = self._router.forecast
        if tracer is not None:
            item = traced_item(item, tracer, time.time_ns)
        self._item_tasks: ItemTasks[ModelRequest, ModelOutcome] = ItemTasks(item)
        collect: Any = self._collect  # serve.batch adds its setters where no type shows them
        collect.set_max_batch_size(batching.max_batch_size)
        collect.set_batch_wait_timeout_s(0.0)  # the dispatcher batches: a second wait only delays
        self._watches = [asyncio.ensure_future(models.watch()) for models in self._models]
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_WITHIN_S):
                await asyncio.gather(*(models.answered.wait() for models in self._models))

    async def forecast(self, group: ItemBatch[ModelRequest]) -> AsyncIterator[Parts[ModelOutcome]]:
        """Bands or the failure of each item, with the item's number, as they become ready."""
        self._start()
        async with aclosing(self._item_tasks.parts(await self._collect(group))) as parts:
            async for part in parts:
                yield part

    def forget(self, sender: str, numbers: Sequence[int]) -> None:
        """Cancels items that no caller waits for any more."""
        self._item_tasks.forget(sender, numbers)

    async def status(self) -> tuple[list[tuple[str, str, float]], int, frozenset[str] | None]:
        """Breakers (name, state, seconds to the next probe), queued items, and installed models."""
        self._start()
        known, queues = self._breakers.known(), self._dispatcher.stats()
        breakers = [(name, one["state"], one["retry_in_s"]) for name, one in known.items()]
        lists = [one.installed for one in self._models if one.installed is not None]
        installed = frozenset[str]().union(*lists) if lists else None
        return breakers, sum(queue.queued for queue in queues.values()), installed

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        """Applies a command to a model's breakers of all runtimes; returns the new state."""
        self._start()
        return await self._breakers.command(self._runtimes.queue_names(model), command)

    @serve.batch
    async def _collect(
        self, groups: list[ItemBatch[ModelRequest]]
    ) -> list[dict[asyncio.Future[ModelOutcome], int]]:
        return [self._item_tasks.take(group) for group in groups]

    def _call(self, config: Config, number: int, runtime: TollamaRuntime) -> BatchCall:
        """The calls of one runtime, with its own breakers."""
        return BatchCall(
            runtime,
            self._breakers,
            lambda model: self._runtimes.queue_names(model)[number],
            config.tollama,
            config.bands,
            time.monotonic,
            self._keep_late,
        )

    def _keep_late(
        self, items: Sequence[BatchItem], results: Sequence[ItemResult | Exception]
    ) -> None:
        self._router.keep_late(items, results)  # the router is built after the calls

    def _start(self) -> None:
        self._breakers.start()
        self._flusher.start()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Load figures of this replica; Serve calls this and passes them to `scaling.by_items`."""
        return demand(len(self._item_tasks), self._dispatcher.stats().values(), self._calls_at_once)

    def _update_gauges(self) -> None:
        queues, breakers = self._dispatcher.stats(), self._breakers.known()
        self._queues.update(queues, breakers, self._router.kept_answers)


def _replica_rank() -> ReplicaRank:
    """This replica's rank now; Serve may change it while the replica runs."""
    context = serve.get_replica_context()
    return ReplicaRank(context.rank.rank if context.rank else 0, max(1, context.world_size or 1))


def _measured(call: BatchCall, recorder: Recorder, tracer: Tracer | None) -> Call:
    """The calls of one runtime, counted, and traced where traces are configured."""
    counted = metered(call, recorder, time.monotonic)
    return traced_call(counted, tracer) if tracer else counted
