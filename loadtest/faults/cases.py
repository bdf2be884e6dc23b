"""The faults, each as an order to the stand-in or to the TCP proxy in front of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtest.stub_faults import Kind


@dataclass(frozen=True, slots=True)
class Case:
    """One fault.

    ``order`` goes to the stand-in and ``toxics`` to the proxy. ``poison_every`` makes every n-th
    request one the runtime refuses; ``known`` asks for markets whose answers have expired, and
    ``at_once`` for all at the same moment.
    """

    name: str
    order: Mapping[str, Any] = field(default_factory=dict)
    toxics: Mapping[str, Any] = field(default_factory=dict)
    poison_every: int | None = None
    known: bool = False
    at_once: bool = False


def _stub(name: str, kind: Kind, arg: str | float | None = None) -> Case:
    return Case(name, {"fault": kind.value} | ({} if arg is None else {"arg": arg}))


def _tcp(name: str, **toxics: Any) -> Case:
    return Case(f"tcp: {name}", toxics=toxics)


NONE = Case("no fault")
POISON_LIMIT = 9.0  # in log-odds: prices in cents stay under 4.6, a price of 0.99999 is over

CASES: tuple[Case, ...] = (
    NONE,
    _stub("latency 0.5 s", Kind.LATENCY, 500),
    _stub("latency 2 s", Kind.LATENCY, 2000),
    _stub("jitter to 1.5 s", Kind.JITTER, 1500),
    _stub("hang", Kind.HANG, 60),
    _stub("slow drip", Kind.SLOW_DRIP, 10),
    _stub("reset mid-body", Kind.RESET_MID_BODY),
    _tcp("refused", down=True),
    _tcp("half-closed", half_close=True),
    _tcp("reset after 20 ms", reset_peer_ms=20),
    _tcp("cut at 200 bytes", limit_bytes=200),
    _tcp("drip of bytes", slice_bytes=1, slice_delay_ms=5),
    _tcp("1 kB/s", bandwidth_kb_s=1),
    _tcp("latency 0.3 to 0.6 s", latency_ms=300, jitter_ms=300),
    _stub("wrong content type", Kind.WRONG_CONTENT_TYPE),
    _stub("truncated JSON", Kind.TRUNCATED_JSON),
    _stub("null values", Kind.NAN_VALUES, "null"),
    _stub("NaN literal", Kind.NAN_VALUES, "literal"),
    _stub("1e999", Kind.NAN_VALUES, "infinity"),
    _stub("400 digits", Kind.NAN_VALUES, "digits"),
    _stub("bad UTF-8", Kind.BAD_UTF8),
    _stub("missing quantile", Kind.MISSING_QUANTILE),
    _stub("quantiles null", Kind.QUANTILES_NULL),
    _stub("horizon too short", Kind.WRONG_HORIZON, -1),
    _stub("horizon too long", Kind.WRONG_HORIZON, 1),
    _stub("crossed", Kind.CROSSED),
    _stub("swapped ids", Kind.SWAPPED_IDS),
    _stub("missing id", Kind.MISSING_ID),
    _stub("duplicate ids", Kind.DUPLICATE_IDS),
    _stub("missing series", Kind.MISSING_SERIES),
    Case("poisoned batch", {"fault": Kind.POISONED.value, "arg": POISON_LIMIT}, poison_every=10),
    Case(
        "poisoned, unnamed",
        {"fault": Kind.POISONED_BLIND.value, "arg": POISON_LIMIT},
        poison_every=10,
    ),
    _stub("401", Kind.UNAUTHORIZED),
    _stub("403", Kind.FORBIDDEN),
    _stub("404", Kind.NOT_FOUND),
    _stub("413", Kind.TOO_LARGE),
    _stub("429", Kind.OVERLOADED),
    _stub("429, Retry-After 1", Kind.OVERLOADED, 1),
    _stub("500", Kind.BROKEN),
    _stub("502", Kind.BAD_GATEWAY),
    _stub("503", Kind.UNAVAILABLE),
    Case("503, known markets", {"fault": Kind.UNAVAILABLE.value}, known=True),
    _stub("its breaker open", Kind.CIRCUIT_OPEN),
    _stub("redirect", Kind.REDIRECT),
    _stub("gzip bomb 1.1 GB", Kind.GZIP_BOMB, 1100),
    _stub("100 MB answer", Kind.HUGE_ANSWER, 100),
    Case("33 MB answer, all at once", {"fault": Kind.HUGE_ANSWER.value, "arg": 33}, at_once=True),
    _stub("endless chunks", Kind.ENDLESS_CHUNKS),
    _stub("answered twice", Kind.ANSWERED_TWICE),
    _stub("flapping", Kind.FLAPPING, 5),
    _tcp("black hole", timeout_ms=0),  # last: a slot lost to it is lost for the whole lease
)


def chosen(names: list[str]) -> tuple[Case, ...]:
    """The cases by name, all when none is named."""
    return tuple(case for case in CASES if case.name in names) or CASES
