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
    """Milliseconds of CPU a second of what there is once, and for each replica it looks after."""

    controller_ms: float
    controller_ms_each: float
    breaker_ms: float
    breaker_ms_each: float


@dataclass(frozen=True, slots=True)
class Point:
    """A rate that was measured under the load that its name says.

    ``elsewhere`` are the cores that the machine had busy with other things meanwhile.
    """

    name: str
    per_second: float
    elsewhere: float


MEASURED = Costs(
    ingress_ms=1.4,
    runner_ms=0.5,
    proxy_ms=0.2,
    around_ms=0.6,
    hit_ms=0.6,
    bulk_ingress_ms=0.49,
    bulk_runner_ms=0.37,
    background=0.2,
    wait_ms=12.0,
)
FLEET = Fleet(controller_ms=40.0, controller_ms_each=5.0, breaker_ms=10.0, breaker_ms_each=5.0)
POINTS = (
    Point("unique, 32 at once", 190.0, 0.3),
    Point("a batch of 1,000 new markets", 600.0, 0.3),
)
