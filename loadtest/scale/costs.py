"""What a forecast costs, as it was measured, and the sizes of things."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of CPU for one forecast that the model answers.

    ``around_ms`` is what HAProxy, the client and the stand-in took where all share one machine;
    of it ``proxy_ms`` is HAProxy's. ``background`` are the cores that Ray keeps busy on a node
    whatever is asked.
    """

    ingress_ms: float
    runner_ms: float
    proxy_ms: float
    around_ms: float
    hit_ms: float
    bulk_ingress_ms: float
    bulk_runner_ms: float
    background: float
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
