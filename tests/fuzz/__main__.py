"""Command line `python -m tests.fuzz`: a line for each kind, and the verdict last."""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain

from tests.fuzz.by_document import by_document
from tests.fuzz.cost import by_cost
from tests.fuzz.kinds import planned
from tests.fuzz.run import Tally, run_kind
from tests.fuzz.senders import InProcess, OverTheWire, Send

DOCUMENT_SHARE = 0.2  # of all bodies, made by schemathesis from the OpenAPI document


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 when no body did harm."""
    options = _options(arguments)
    warnings.simplefilter("error")  # a warning in the service is a fault it would answer over
    with closing(OverTheWire(options.url) if options.url else InProcess()) as send:
        tallies = fuzz(send, options.bodies, options.seed)
        return report(tallies if options.url else chain(by_cost(), tallies), _say)


def fuzz(send: Send, bodies: int, seed: int) -> Iterator[Tally]:
    """A tally for each kind as it is done."""
    by_schema = round(bodies * DOCUMENT_SHARE)
    for kind, shots, many in planned(bodies - by_schema):
        yield run_kind(kind, shots, send, many, seed)
    yield from by_document(send, by_schema, seed)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--bodies", type=int, default=10_000, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="another one, other bodies")
    parser.add_argument("--url", help="a service on this machine; else one in this process")
    return parser.parse_args(arguments)


def report(tallies: Iterable[Tally], say: Callable[[str], object]) -> int:
    """Says how each kind fared as it is done, and the verdict last; the exit code."""
    done = []
    say(f"{'kind':<32}{'bodies':>7}{'slowest':>9}  statuses")
    for tally in tallies:
        done.append(tally)
        statuses = "  ".join(f"{s}: {n}" for s, n in sorted(tally.statuses.items()))
        say(f"{tally.kind:<32}{tally.bodies:>7}{tally.slowest_s * 1e3:>6.0f} ms  {statuses}")
    harmful = [tally for tally in done if tally.failure]
    for tally in harmful:
        say(f"\n{tally.kind}: {tally.failure}")
    bodies = sum(tally.bodies for tally in done)
    say(f"\n{bodies} bodies; {len(harmful)} of {len(done)} kinds did harm")
    say("FUZZ_FAIL" if harmful else "FUZZ_PASS")
    return 1 if harmful else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
