"""Traces of a running service, as a collector receives them over OTLP."""

import asyncio
from collections.abc import Iterable

import pytest

from tests.integration.collector import Collector
from tests.integration.conftest import Stack, body, until

pytestmark = pytest.mark.integration

CALLER_SPAN = "00f067aa0ba902b7"


def trace(number: int) -> str:
    return f"{number:032x}"


async def ask(stack: Stack, number: int, **changes: object) -> None:
    """A forecast under a trace of the caller's, who wants it kept."""
    headers = {"traceparent": f"00-{trace(number)}-{CALLER_SPAN}-01"}
    request = body(4000 + number, **changes)
    answer = await stack.http.post("/tsfm/forecast", json=request, headers=headers)
    assert answer.status_code == 200


async def told_of(collector: Collector, numbers: Iterable[int], *names: str) -> None:
    async def has_come() -> bool:
        return all(set(names) <= collector.of(trace(n)).keys() for n in numbers)

    await until(has_come)


async def test_forecast_is_followed_through_every_process_and_into_the_batch(
    stack: Stack, collector: Collector
) -> None:
    numbers = range(1, 9)
    mock = {"provider": "tollama", "model_name": "mock"}  # takes any number of series a call
    stack.stub.control(ms_per_call=300)
    await asyncio.gather(*(ask(stack, number, model=mock) for number in numbers))
    await told_of(collector, numbers, "POST /tsfm/forecast", "model", "queue")

    async def every_call_has_come() -> bool:
        calls = [span for span in collector.spans if span.name == "runtime call"]
        return set().union(*(c.links for c in calls)) >= {trace(n) for n in numbers}

    await until(every_call_has_come)
    for number in numbers:
        spans = collector.of(trace(number))
        ingress, model = spans["POST /tsfm/forecast"], spans["model"]
        assert (ingress.parent, model.parent) == (CALLER_SPAN, ingress.id)
        assert spans["queue"].parent == model.id
        assert (ingress.deployment, spans["queue"].deployment) == ("Ingress", "Runner")
    calls = [s for s in collector.spans if s.name == "runtime call" and len(s.links) > 1]
    assert calls != []
    for call in calls:
        assert len(call.links) == call.sizes["tsfm.batch_size"]


async def test_baseline_is_in_the_trace_of_its_request(stack: Stack, collector: Collector) -> None:
    await ask(stack, 20, liquidity_bucket="low")
    await told_of(collector, [20], "POST /tsfm/forecast", "baseline")

    spans = collector.of(trace(20))
    assert spans["baseline"].parent == spans["POST /tsfm/forecast"].id
    assert "model" not in spans


async def test_request_that_nobody_wants_followed_leaves_no_trace(
    stack: Stack, collector: Collector
) -> None:
    await stack.meta(4100)
    await ask(stack, 21)
    await told_of(collector, [21], "POST /tsfm/forecast", "model", "queue", "runtime call")

    assert {span.parent for span in collector.spans if "POST" in span.name} == {CALLER_SPAN}
