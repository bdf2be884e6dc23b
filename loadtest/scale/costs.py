"""What a forecast costs, as it was measured, and the sizes of things."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of CPU for one forecast that the model answers.

    ``around_ms`` is what HAProxy, the client and the stand-in took where all share one machine;
    of it ``proxy_ms`` is HAProxy's. ``background`` are the cores that Ray keeps busy on a node
    whatever is asked. ``wait_ms`` is what a forecast waits on its way there and back for reasons
    other than work: wake-ups and hops between processes.
    """

    ingress_ms: float
    runner_ms: float
    proxy_ms: float
    around_ms: float
    hit_ms: float
    bulk_ingress_ms: float
    bulk_runner_ms: float
    background: float
    wait_ms: float = 0.0
    share_s: float = 0.010

    def of_bulk(self) -> "Costs":
        """The costs of an item of a batch."""
        return Costs(
            ingress_ms=self.bulk_ingress_ms,
            runner_ms=self.bulk_runner_ms,
            proxy_ms=0.0,
            around_ms=self.around_ms - self.proxy_ms,
            hit_ms=self.hit_ms,
            bulk_ingress_ms=self.bulk_ingress_ms,
            bulk_runner_ms=self.bulk_runner_ms,
            background=self.background,
            wait_ms=self.wait_ms,
            share_s=self.share_s,
        )


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that takes a + b * n milliseconds for a call with n series, one call at a time."""

    a_ms: float = 37.0
    b_ms: float = 0.9
    most: int = 128  # series in a call

    def call_ms(self, series: int) -> float:
        return self.a_ms + self.b_ms * series

    def per_second(self, series: int) -> float:
        """Series a second in calls of so many.

        >>> round(Runtime().per_second(128))
        841
        """
        return 1e3 * series / self.call_ms(series)


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything."""

    ingresses: int = 1
    runners: int = 1
    runtimes: int = 1
    nodes: int = 1
    cores_each: float = 2.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """Milliseconds of CPU a second that each replica costs what there is once, at most.

    All that they used beside a few replicas, divided by those: a part of it is theirs whatever
    there is, so that they end later than this says.
    """

    controller_ms_each: float
    breaker_ms_each: float


@dataclass(frozen=True, slots=True)
class Point:
    """A rate that was measured on one machine with one ingress, and under what load.

    ``elsewhere`` are the cores that the machine had busy with other things meanwhile; no callers
    stand for batches of 1,000 markets, one after the other.
    """

    name: str
    per_second: float
    elsewhere: float
    callers: int
    runners: int = 1
    runtime: Runtime = Runtime()


# Two cores shared with other work, 22 November 2026, Ray 2.60.0: the row "unique, 128 at once" of
# docs/scale.md; `wait_ms` is what a lone caller waited on top of the runtime's and this time.
MEASURED = Costs(
    ingress_ms=1.79,
    runner_ms=0.667,
    proxy_ms=0.233,
    around_ms=0.593,
    hit_ms=0.62,
    bulk_ingress_ms=0.49,
    bulk_runner_ms=0.367,
    background=0.23,
    wait_ms=11.5,
)
FLEET = Fleet(controller_ms_each=62 / 3, breaker_ms_each=20.0)  # beside three replicas, one Runner
_BUSY = 0.8  # cores elsewhere: not recorded then; it makes the first point fit
_SLOW = Runtime(20.0, 4.0)  # of `make autoscale`
POINTS = (
    Point("128 callers", 308, _BUSY, 128),
    Point("32 callers", 146, _BUSY, 32),
    Point("batches of 1,000", 519, _BUSY, 0),
    Point("slow runtime, 10 callers", 84, _BUSY, 10, 1, _SLOW),
    Point("slow runtime, 120 callers", 193, _BUSY, 120, 1, _SLOW),
    Point("slow runtime, 120 callers, three Runners", 204, _BUSY, 120, 3, _SLOW),
)
