"""Price files and windows made up for the tests of backtests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from serve_app.backtest.windows import Windows

START = 1_700_000_000


def made_windows(
    past: np.ndarray, future: np.ndarray, step_s: float = 300.0, **labels: list[str]
) -> Windows:
    """Windows of one market unless labels say otherwise; each starts an hour after the other."""
    count = len(past)
    names = ("market_id", "platform", "category", "event", "liquidity")
    columns: Mapping[str, list[str]] = {name: labels.get(name, ["x"] * count) for name in names}
    return Windows(
        past,
        future,
        START + 3600.0 * np.arange(count, dtype=np.float64),
        np.full(count, step_s),
        {name: np.array(values) for name, values in columns.items()},
    )


def rough_prices(count: int, steps: int, seed: int = 5) -> np.ndarray:
    """``(count, steps)`` prices on a grid of a cent: sticky, with jumps, inside (0, 1)."""
    chance = np.random.default_rng(seed)
    scale = chance.uniform(0.02, 0.2, (count, 1))
    moves = chance.standard_t(3, (count, steps)) * (chance.random((count, steps)) < 0.4) * scale
    return np.clip(np.round(1 / (1 + np.exp(-np.cumsum(moves, axis=1))), 2), 0.01, 0.99)


def write_markets(path: Path, count: int = 6, steps: int = 120, seed: int = 5) -> Path:
    """A CSV file of ``count`` markets in half as many events, five minutes a step."""
    lines = ["market_id,ts,price,platform,event"]
    for i, prices in enumerate(rough_prices(count, steps, seed)):
        lines += [
            f"m{i},{START + 300 * t},{price:.2f},p{i % 2},e{i // 2}"
            for t, price in enumerate(prices)
        ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path
