"""One blow: requests before, during and after it, and what became of them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from loadtest.chaos.strike import Field, seconds_until
from loadtest.chaos.targets import Blow
from loadtest.chaos.verdict import Attempt, Row, is_away, is_lost, row_of
from loadtest.drills.harness import TOLERANCE_MS, Client
from loadtest.http_client import endpoint
from loadtest.payloads import Shape, forecast_bodies

SHAPE = Shape(model="mock", points=96)
LATE_S = 1.0
POLL_SEED = 2_000_003


@dataclass(frozen=True, slots=True)
class Plan:
    """How hard and how long."""

    per_second: float
    window_s: float
    lead_s: float  # requests before the blow
    pause_s: float  # how long a stopped process stays stopped
    deadline_s: float
    retry_after_s: float  # when the proxy was away. Else at once
    retry_timeout_s: float
    replace_limit_s: float


async def run_blow(scene: Field, blow: Blow, plan: Plan, seed: int) -> Row:
    """Asks at a steady rate, strikes, and waits until all is as it was."""
    target = endpoint(scene.service.url, "/tsfm/forecast")
    # whoever asks through what is stopped gives up at the deadline and asks again; elsewhere we
    # wait longer, to see by how much a promise was broken
    patience_s = TOLERANCE_MS / 1e3 if blow.target.carries else LATE_S
    client = Client(target, SHAPE, plan.deadline_s + patience_s)
    second = Client(target, SHAPE, plan.retry_timeout_s)
    before = len(await asyncio.to_thread(scene.processes, blow.target))
    bodies = forecast_bodies(int(plan.per_second * plan.window_s), SHAPE, seed)
    whole = asyncio.Event()
    if not blow.target.restarts:
        whole.set()
    try:
        if blow.target.model_down:
            scene.stub.control(fault="503")
        asking = asyncio.create_task(_ask(client, second, bodies, plan, whole))
        await asyncio.sleep(plan.lead_s)
        blow_s = client.now_s()
        victim = await scene.strike(blow.target, blow.signal, plan.pause_s)
        replaced_s = await _replaced(scene, blow, victim, before, plan, client.now_s)
        took_s = None if replaced_s is None else client.now_s() - blow_s
        whole.set()
        attempts = await asking
        scene.stub.reset()
        await _wait_model(second, seed, plan)
    finally:
        scene.go_on()
        client.close()
        second.close()
    return row_of(blow.name, attempts, blow_s, took_s, carries=blow.target.carries)


async def _ask(
    client: Client, second: Client, bodies: Sequence[bytes], plan: Plan, whole: asyncio.Event
) -> list[Attempt]:
    tasks = []
    for number, body in enumerate(bodies):
        await asyncio.sleep(max(0.0, number / plan.per_second - client.now_s()))
        tasks.append(asyncio.create_task(_attempt(client, second, body, plan.retry_after_s, whole)))
    return await asyncio.gather(*tasks)


async def _attempt(
    client: Client, second: Client, body: bytes, retry_after_s: float, whole: asyncio.Event
) -> Attempt:
    first = await client.send(body)
    if not is_lost(first):
        return Attempt(first)
    await whole.wait()  # where everything is restarted, nobody answers before
    await asyncio.sleep(retry_after_s if is_away(first) else 0)
    return Attempt(first, await second.send(body))


async def _replaced(
    scene: Field, blow: Blow, victim: int, before: int, plan: Plan, now_s: Callable[[], float]
) -> float | None:
    def whole() -> bool:
        alive = scene.processes(blow.target)
        ended = victim not in alive or blow.signal.name == "SIGSTOP"
        as_many = len(alive) >= before or not blow.target.replaced
        return ended and as_many and (not blow.target.restarts or scene.service.is_ready())

    return await seconds_until(whole, plan.replace_limit_s, now_s)


async def _wait_model(client: Client, seed: int, plan: Plan) -> None:
    """Until five answers in a row are the model's, so that a blow does not hurt the next row."""
    until, row = client.now_s() + plan.replace_limit_s, 0
    for number in count():
        body = forecast_bodies(1, SHAPE, POLL_SEED + 10_000 * seed + number)[0]
        row = row + 1 if (await client.send(body)).source == "model" else 0
        if row == 5 or client.now_s() > until:
            return
        await asyncio.sleep(0.1)
