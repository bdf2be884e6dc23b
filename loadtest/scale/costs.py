"""What a forecast costs, as it was measured, and the sizes of things."""

from dataclasses import dataclass, replace

LONGEST_S = 0.6  # of a call where nobody waits for a single forecast: batching.max_call_s


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of CPU for one forecast that the model answers.

    ``around_ms`` is what HAProxy, the client and the stand-in took where all share one machine;
    of it ``proxy_ms`` is HAProxy's. ``background`` are the cores that Ray keeps busy on a node
    whatever is asked. ``wait_ms`` is what a forecast waits on its way there and back for reasons
    other than work: wake-ups and hops between processes. The last three are settings that are
    shipped: between shared calls, before a call's end, of a call while single forecasts come.
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
    share_s: float = 0.004
    lead_s: float = 0.1
    prompt_s: float = 0.1

    def of_bulk(self) -> "Costs":
        """The costs of an item of a batch."""
        return replace(
            self,
            ingress_ms=self.bulk_ingress_ms,
            runner_ms=self.bulk_runner_ms,
            proxy_ms=0.0,
            around_ms=self.around_ms - self.proxy_ms,
            prompt_s=LONGEST_S,
        )


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that takes a + b * n milliseconds for a call with n series, one call at a time."""

    a_ms: float = 37.0
    b_ms: float = 0.9
    most: int = 128  # series in a call

    def call_ms(self, series: int) -> float:
        return self.a_ms + self.b_ms * series

    def most_within(self, seconds: float) -> int:
        """The largest call that takes no longer, or no longer than two calls of one.

        >>> Runtime().most_within(0.1), Runtime(148, 3.6).most_within(0.1)
        (70, 43)
        """
        longest_ms = max(seconds * 1e3, 2 * self.call_ms(1))
        return max(1, min(self.most, int((longest_ms - self.a_ms) / self.b_ms)))

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
    ingress_ms=1.74,
    runner_ms=0.69,
    proxy_ms=0.20,
    around_ms=0.515,
    hit_ms=0.69,
    bulk_ingress_ms=0.555,
    bulk_runner_ms=0.355,
    background=0.27,
    wait_ms=14.1,
)
FLEET = Fleet(controller_ms_each=55 / 3, breaker_ms_each=20.0)  # beside three replicas, one Runner
POINTS = (
    Point("128 callers", 350, 0.8, 128),
    Point("32 callers", 187, 1.0, 32),
    Point("batches of 1,000", 691, 0.9, 0),
    Point("128 callers, runtime four times as slow", 160, 1.2, 128, 1, Runtime(148.0, 3.6)),
)
