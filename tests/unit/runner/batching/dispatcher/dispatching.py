"""Shared by the tests of the dispatcher: runtimes with a known cost, and a test harness."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from runner.batching.dispatcher import BatchResult, Dispatcher, QueueStats, settle
from runner.errors import RuntimeTimeoutError
from runner.types import Priority
from tests.support.builders import make_config

BULK, URGENT = Priority.BULK, Priority.INTERACTIVE


@dataclass
class Sent:
    """One call as the runtime saw it."""

    key: str
    items: list[Any]
    started_at: float
    ended_at: float = inf


@dataclass
class Runtime:
    """A runtime that needs ``fixed_s + per_item_s * n`` for a call and answers ``item.upper()``."""

    fixed_s: float = 0.1
    per_item_s: float = 0.0
    calls: list[Sent] = field(default_factory=list)

    async def __call__(self, key: str, items: Sequence[Any]) -> BatchResult[Any]:
        now = asyncio.get_running_loop().time
        sent = Sent(key, list(items), now())
        self.calls.append(sent)
        await asyncio.sleep(self.fixed_s + self.per_item_s * len(items))
        sent.ended_at = now()
        return BatchResult([str(item).upper() for item in items])

    @property
    def batches(self) -> list[str]:
        return ["".join(map(str, call.items)) for call in self.calls]


class Harness:
    """A dispatcher in a running loop, with short methods for the tests."""

    def __init__(self, call: Callable[..., Any], **changes: Any) -> None:
        arguments = {
            "queue_of": lambda key: key[0],
            "batch_limit": lambda key: 1000,
            "max_batch_bytes": 10**9,
            "lease_s": 30.0,
            "clock": asyncio.get_running_loop().time,
        }
        given = {name: changes.pop(name, default) for name, default in arguments.items()}
        defaults = {
            "max_batch_size": 4,
            "max_call_s": 1e9,
            "prompt_call_s": 1e9,
            "max_wait_s": 1e9,
        }
        section = make_config(batching=defaults | changes).batching
        self.now = given["clock"]
        self.dispatcher: Dispatcher[str, Any, Any] = Dispatcher(call, settings=section, **given)

    def put(self, item, key="k", within_s=1000.0, size_bytes=1, priority=URGENT):
        return self.dispatcher.submit(
            key, item, deadline=self.now() + within_s, size_bytes=size_bytes, priority=priority
        )

    def put_all(self, items, **how):
        return [self.put(item, **how) for item in items]

    def queue_stats(self, name="k") -> QueueStats:
        return self.dispatcher.stats()[name]


async def answers(futures):
    """Results and errors, in order."""
    return await asyncio.gather(*futures, return_exceptions=True)


class AbandonedCalls:
    """Abandons its calls after ``timeout_s``; the runtime computes for ``busy_s`` in all."""

    def __init__(self, timeout_s=1.0, busy_s=3.0):
        self.timeout_s, self.busy_s = timeout_s, busy_s
        self.started: list[float] = []
        self.ends: list[asyncio.Future[None]] = []

    async def __call__(self, key, items):
        loop = asyncio.get_running_loop()
        self.started.append(loop.time())
        end: asyncio.Future[None] = loop.create_future()
        self.ends.append(end)
        loop.call_later(self.busy_s, settle, end, None)
        await asyncio.sleep(self.timeout_s)
        return BatchResult([RuntimeTimeoutError() for _ in items], abandoned=end)
