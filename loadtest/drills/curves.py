"""Does the cost grow linearly with points, horizon and series?

One connection, fresh markets, a stand-in runtime without inference time (it still reads and
writes JSON). The median answer time of each size, for the model's path and the
baseline's; a curve bends when the answer time grows faster than the size does. The last line is
``CURVES_PASS`` or ``CURVES_FAIL: which`` bend.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import log
from pathlib import Path
from typing import Any

from loadtest.drills import harness
from loadtest.drills.compare import drive
from loadtest.payloads import Shape, batch_body, forecast_bodies

OPTIONS: dict[str, tuple[Any, str]] = {
    "--requests": (9, "of each size"),
    "--write": (Path, "also put the table on this page"),
}
MODEL = Shape(model="mock")
BASELINE = replace(MODEL, liquidity="low")
POINTS = (288, 1_000, 3_000, 10_000, 20_000)
HORIZONS = (12, 48, 128, 512)
SERIES = (1, 8, 32, 128, 512)
BEND = 1.2  # the exponent of a curve's end; 1 is linear, the rest is for the machine's noise


@dataclass(frozen=True, slots=True)
class Curve:
    """Median milliseconds by size."""

    name: str
    sizes: Sequence[int]
    ms: Sequence[float]

    def per_unit_ms(self) -> list[float]:
        """What a further unit costs between neighbouring sizes."""
        ends = zip(self.sizes[1:], self.sizes, self.ms[1:], self.ms, strict=False)
        return [(b - a) / (m - n) for m, n, b, a in ends]

    def exponent(self) -> float:
        """Of the growth over the last stretch: 1 is linear, under 1 the fixed part still counts."""
        return log(self.ms[-1] / self.ms[-2]) / log(self.sizes[-1] / self.sizes[-2])


def main(argv: list[str] | None = None) -> int:
    args = harness.options("drills.curves", __doc__, argv, OPTIONS)
    curves: list[Curve] = []

    def drill() -> None:
        with harness.standing(1.0, 0.0) as (service, _):
            curves.extend(asyncio.run(_measure(service.url, args.requests)))
        harness.publish(table_of(curves), args.write, "curves")

    def report() -> tuple[str, list[str]]:
        return table_of(curves), [c.name for c in curves if c.exponent() > BEND]

    return harness.judged("CURVES", drill, report)


async def _measure(url: str, requests: int) -> list[Curve]:
    seeds = count(1)

    async def one(shape: Shape) -> float:
        bodies = forecast_bodies(requests, shape, next(seeds))
        return (await drive(url, harness.FORECAST, bodies, 1)).p50_ms

    async def many(shape: Shape, series: int) -> float:
        bodies = [batch_body(forecast_bodies(series, shape, next(seeds))) for _ in range(requests)]
        return (await drive(url, harness.FORECAST_BATCH, bodies, 1)).p50_ms

    await one(MODEL)  # warm up
    curves = []
    for path, shape in (("model", MODEL), ("baseline", BASELINE)):
        by_points = [await one(replace(shape, points=points)) for points in POINTS]
        by_horizon = [await one(replace(shape, horizon=horizon)) for horizon in HORIZONS]
        by_series = [await many(shape, series) for series in SERIES]
        curves += [
            Curve(f"{path}: points", POINTS, by_points),
            Curve(f"{path}: horizon", HORIZONS, by_horizon),
            Curve(f"{path}: series in a batch", SERIES, by_series),
        ]
    return curves


def table_of(curves: Sequence[Curve]) -> str:
    return harness.table(map(_cells, curves))


def _cells(curve: Curve) -> dict[str, object]:
    sizes = zip(curve.sizes, curve.ms, strict=True)
    return {
        "what grows": curve.name,
        "median ms by size": ", ".join(f"{size:,}: {ms:.1f}" for size, ms in sizes),
        "µs per further unit": ", ".join(f"{u * 1e3:,.1f}" for u in curve.per_unit_ms()),
        "linear": f"{curve.exponent():.2f}",
    }


if __name__ == "__main__":
    sys.exit(main())
