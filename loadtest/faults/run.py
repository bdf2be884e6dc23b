"""Puts one fault in force after the other, and asks all the while."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import orjson

from loadtest.drills.harness import Client, Sample, open_loop
from loadtest.fault_proxy_process import ProxyProcess
from loadtest.faults.cases import NONE, Case
from loadtest.faults.verdict import Row, row_of
from loadtest.http_client import endpoint
from loadtest.payloads import Shape, forecast_bodies
from loadtest.stub.process import StubProcess

SHAPE = Shape(model="mock")
KNOWN_SEED, POLL_SEED = 1_000_001, 1_000_002
BACK_LIMIT_S = 45.0  # a call that hangs for ever holds its slot until its lease ends
_POISON = 0.99999


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run works with."""

    url: str
    stub: StubProcess
    proxy: ProxyProcess
    requests: int
    per_second: float

    def client(self) -> Client:
        return Client(endpoint(self.url, "/tsfm/forecast"), SHAPE)

    async def is_back(self) -> float | None:
        """See ``wait_back``; with a client of its own."""
        client = self.client()
        try:
            return await wait_back(client, seed=0)
        finally:
            client.close()


async def run_case(bench: Bench, case: Case, seed: int) -> Row:
    """Asks under one fault, ends it, and waits until the model answers again."""
    client = bench.client()
    bodies = bodies_of(case, bench.requests, seed)
    try:
        if case.known:
            await _make_known(client, bodies, bench.per_second)
        before = bench.proxy.connections()
        _put_in_force(bench, case)
        samples = await open_loop(client, bodies, math.inf if case.at_once else bench.per_second)
        strikes = _strikes(bench, case, samples, before)
        bench.stub.reset()
        bench.proxy.clear()
        return row_of(case.name, samples, strikes, await wait_back(client, seed))
    finally:
        client.close()


def bodies_of(case: Case, requests: int, seed: int) -> list[bytes]:
    """Markets that no other case asks about, some of them poisoned."""
    bodies = forecast_bodies(requests, SHAPE, KNOWN_SEED if case.known else seed)
    if case.poison_every:
        bodies[:: case.poison_every] = map(_poisoned, bodies[:: case.poison_every])
    return bodies


async def wait_back(client: Client, seed: int) -> float | None:
    """Seconds until the model answers a market it has not seen, with its breaker closed."""
    began = client.now_s()
    for body in _polls(seed):
        sample = await client.send(body)
        if sample.source == "model" and sample.breaker == "closed":
            return sample.done_s - began
        if client.now_s() - began > BACK_LIMIT_S:
            return None
        await asyncio.sleep(0.1)
    return None


def _put_in_force(bench: Bench, case: Case) -> None:
    if case.order:
        bench.stub.control(**case.order)
    if case.toxics:
        bench.proxy.set(**case.toxics)


def _strikes(bench: Bench, case: Case, samples: list[Sample], connections_before: int) -> int:
    if case == NONE:
        return len(samples)
    if case.order:
        return sum(bench.stub.stats()["faults"].values())
    fallbacks = sum(sample.source != "model" for sample in samples)
    return max(fallbacks, bench.proxy.connections() - connections_before)


async def _make_known(client: Client, bodies: list[bytes], per_second: float) -> None:
    """Lets the model answer, and waits until the first of these answers has expired."""
    await open_loop(client, bodies, per_second)
    while (await client.send(bodies[-1])).cached:  # noqa: ASYNC110 - it expires elsewhere
        await asyncio.sleep(0.1)


def _poisoned(body: bytes) -> bytes:
    """The same market at a price the runtime refuses, unlike any other poisoned one."""
    request = orjson.loads(body)
    return orjson.dumps(request | {"y": [*request["y"][:-32], *[_POISON] * 32]})


def _polls(seed: int) -> Iterator[bytes]:
    for number in count():
        yield forecast_bodies(1, SHAPE, POLL_SEED + 1000 * seed + number)[0]
