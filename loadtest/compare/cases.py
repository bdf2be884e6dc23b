"""What is compared, round by round; rivals are measured within seconds of each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from loadtest.compare.drive import closed_loop, open_loop, runtime_call
from loadtest.payloads import Shape, batch_body, forecast_bodies
from loadtest.stub.process import StubProcess

FORECAST, BATCH = "/tsfm/forecast", "/tsfm/forecast/batch"
MODEL = "mock"  # takes any number of series in a call
MARKETS = 1000
BATCH_SERIES = 128
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stand:
    """The addresses, the scale of a run, and fresh markets for each measurement."""

    url: str
    stub: StubProcess
    scale: float
    say: Say
    shape: Shape = field(default_factory=lambda: Shape(model=MODEL))
    seeds: Iterator[int] = field(default_factory=lambda: count(1))

    def fresh(self, markets: int) -> list[bytes]:
        """Bodies of markets that nobody has seen."""
        return forecast_bodies(markets, self.shape, next(self.seeds))

    def many(self, requests: int) -> int:
        return max(40, int(requests * self.scale))


async def model_round(stand: Stand) -> dict[str, float]:
    """The platform, the cache, the runtime and the service in front of it."""
    url = stand.url
    plain = [b"{}"] * stand.many(4000)
    noop = await closed_loop(url, "/noop/", plain, 32)
    alone = await closed_loop(url, "/noop/", plain[: stand.many(400)], 1)
    known = stand.fresh(50)
    await closed_loop(url, FORECAST, known, 8)
    hits = await closed_loop(url, FORECAST, known * (stand.many(4000) // 50), 32)
    hit_alone = await closed_loop(url, FORECAST, known * (stand.many(400) // 50 + 1), 1)
    call = runtime_call(BATCH_SERIES, stand.shape.points, stand.shape.horizon, MODEL)
    direct = await closed_loop(stand.stub.url, "/v1/forecast", [call] * 8, 1)
    single = runtime_call(1, stand.shape.points, stand.shape.horizon, MODEL)
    one = await closed_loop(stand.stub.url, "/v1/forecast", [single] * 20, 1)
    busy = await closed_loop(url, FORECAST, stand.fresh(stand.many(2000)), 128)
    some = await closed_loop(url, FORECAST, stand.fresh(stand.many(600)), 32)
    lone = await closed_loop(url, FORECAST, stand.fresh(40), 1)
    bulk = await closed_loop(url, BATCH, [batch_body(stand.fresh(MARKETS))], 1)
    runtime = direct.per_second * BATCH_SERIES
    return {
        "noop_rate": noop.per_second,
        "noop_p50_ms": alone.p50_ms,
        "hit_rate": hits.per_second,
        "hit_share": hits.per_second / noop.per_second,
        "hit_p50_ms": hit_alone.p50_ms,
        "runtime_rate": runtime,
        "runtime_single_rate": one.per_second,
        "unique_rate": busy.per_second,
        "unique_share": busy.per_second / runtime,
        "unique_gain": busy.per_second / one.per_second,
        "unique_p95_ms": busy.p95_ms,
        "unique32_p95_ms": some.p95_ms,
        "lone_extra_ms": lone.p50_ms - one.p50_ms,
        "bulk_rate": bulk.per_second * MARKETS,
        "bulk_share": bulk.per_second * MARKETS / runtime,
    }


async def outage_round(stand: Stand) -> dict[str, float]:
    """An open breaker, against two empty deployments with a call between them."""
    url = stand.url
    two = await closed_loop(url, "/noop2/", [b"{}"] * stand.many(2000), 32)
    fallback = await closed_loop(url, FORECAST, stand.fresh(stand.many(2000)), 32)
    steady = await open_loop(url, FORECAST, stand.fresh(stand.many(1000)), 200.0)
    return {
        "noop2_rate": two.per_second,
        "fallback_rate": fallback.per_second,
        "fallback_share": fallback.per_second / two.per_second,
        "fallback200_p95_ms": steady.p95_ms,
    }


async def open_the_breaker(stand: Stand) -> None:
    """Makes the runtime fail until the service leaves it alone."""
    stand.stub.control(fault="503")
    await closed_loop(stand.url, FORECAST, stand.fresh(12), 1)
