"""The stand-in's state: settings, one lock per model family, the fault in force, its records."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import Any

from loadtest.stub.faults import Fault, FaultPlan, Kind, parse_fault
from loadtest.stub.forecast import family_of

KEPT_CALLS = 10_000


@dataclass(slots=True)
class Settings:
    """Models and inference times of the stand-in; can be changed while it runs."""

    ms_per_call: float = 0.0
    ms_per_series: float = 0.0
    models: tuple[str, ...] = ("mock",)
    api_key: str | None = None
    series_limits: Mapping[str, int] = field(default_factory=dict)

    def inference_s(self, series_count: int) -> float:
        return (self.ms_per_call + series_count * self.ms_per_series) / 1000


@dataclass(slots=True)
class Records:
    """Requests that the stand-in received, for tests and drills."""

    calls: int = 0
    forecasts: int = 0
    busy_ms: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    series_per_call: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_CALLS))
    last_request: dict[str, Any] = field(default_factory=dict)

    def seen(self, payload: Any, headers: Mapping[str, str]) -> None:
        """Keeps the outline of the last request: its headers and the names in it."""
        if isinstance(payload, dict):
            self.last_request = {"headers": dict(headers), "fields": sorted(payload)}

    def as_json(self) -> dict[str, Any]:
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return plain | {"series_per_call": list(self.series_per_call)}


class Runtime:
    """One lock per family is held for a whole inference, delay included, as the daemon does."""

    def __init__(self, settings: Settings, fault: Fault | None = None, seed: int = 0) -> None:
        self.settings = settings
        self.records = Records()
        self._seed = seed
        self.plan = FaultPlan(fault, seed)
        self._locks: dict[str, asyncio.Lock] = {}
        self._released = asyncio.Event()

    def change_fault(self, fault: Fault | None) -> None:
        """Puts a fault in force, or none; calls that hang are let go."""
        self._released.set()
        self._released = asyncio.Event()
        self.plan = FaultPlan(fault, self._seed)

    def lock_for(self, model: str) -> asyncio.Lock:
        return self._locks.setdefault(family_of(model), asyncio.Lock())

    async def hold(self, fault: Fault | None, until: float) -> None:
        """Waits for the inference time, plus the delay of the fault."""
        lifted = fault is not self.plan.fault  # while it waited for the lock
        if fault is not None and fault.kind is Kind.HANG and not lifted:
            await _wait_at_most(self._released, fault.number(3600))
        if fault is not None and fault.kind is Kind.LATENCY:
            until += fault.number(1000) / 1000
        if fault is not None and fault.kind is Kind.JITTER:
            until += self.plan.jitter_s(fault)
        if (left := until - perf_counter()) > 0:
            await asyncio.sleep(left)

    def control(self, order: Mapping[str, Any]) -> None:
        """Applies the fields of ``POST /_control``.

        Raises:
            ValueError: a field, kind or value is not known.
        """
        unknown = order.keys() - _ORDERS
        if unknown:
            raise ValueError(f"unknown fields: {', '.join(sorted(unknown))}")
        for name in ("ms_per_call", "ms_per_series"):
            if name in order:
                setattr(self.settings, name, float(order[name]))
        if "models" in order:
            self.settings.models = tuple(order["models"])
        if "api_key" in order:
            self.settings.api_key = order["api_key"]
        if "fault" in order:
            self.change_fault(_ordered_fault(order))


_ORDERS = frozenset(
    ("fault", "arg", "share", "count", "items", "ms_per_call", "ms_per_series", "models", "api_key")
)


async def _wait_at_most(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


def _ordered_fault(order: Mapping[str, Any]) -> Fault | None:
    if order["fault"] is None:
        return None
    kind, arg = parse_fault(str(order["fault"]))
    arg = str(order["arg"]) if order.get("arg") is not None else arg
    share, count, items = order.get("share", 1.0), order.get("count"), order.get("items")
    return Fault(kind, arg, float(share), count, items)
