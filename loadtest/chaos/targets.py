"""Whom the drill hits, and how a victim is found among the service's processes."""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass

KILL, STOP = signal.SIGKILL, signal.SIGSTOP
RUNTIME = "runtime"


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of process: ``pattern`` is how its command line begins or what it holds.

    ``carries`` says that callers' connections run through it: they may be lost with it. With
    ``model_down`` the runtime fails as well, for nobody would miss the target otherwise.
    """

    name: str
    pattern: str
    carries: bool = False
    model_down: bool = False

    def found_in(self, processes: Mapping[int, str]) -> list[int]:
        """The ids of its processes, lowest first."""
        return sorted(pid for pid, line in processes.items() if re.search(self.pattern, line))


TARGETS = (
    Target("Runner replica", r"^ray::\S*ServeReplica:tsfm:Runner\b"),
    Target("Ingress replica", r"^ray::\S*ServeReplica:tsfm:Ingress\b", carries=True),
    Target("Baseline replica", r"^ray::\S*ServeReplica:tsfm:Baseline\b", model_down=True),
    Target("breaker actor", r"^ray::\S*BreakerActor\b"),
    Target("proxy (HAProxy)", r"/haproxy -db -f ", carries=True),
    Target("Serve controller", r"^ray::\S*ServeController\b"),
    Target(RUNTIME, r"^$"),  # ours, not the service's: it is known by its id
)


@dataclass(frozen=True, slots=True)
class Blow:
    """One signal to one target."""

    target: Target
    signal: signal.Signals

    @property
    def name(self) -> str:
        model = ", model down" if self.target.model_down else ""
        return f"{self.signal.name} {self.target.name}{model}"


def blows(only: list[str]) -> list[Blow]:
    """Every target killed, then stopped for a while; ``only`` keeps those that hold a word."""
    every = [Blow(target, sig) for target in TARGETS for sig in (KILL, STOP)]
    return [b for b in every if not only or any(word.lower() in b.name.lower() for word in only)]
