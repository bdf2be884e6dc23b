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
    ``model_down`` the runtime fails as well, for nobody would miss the target otherwise. With
    ``restarts`` the launcher starts everything again; what is not ``replaced`` stays away.
    """

    name: str
    pattern: str
    carries: bool = False
    model_down: bool = False
    restarts: bool = False
    replaced: bool = True

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
HELPERS = (  # of Ray and Serve, which callers need less: killed alone
    Target("Serve proxy manager", r"^ray::HAProxyManager\b", carries=True),
    Target("Serve fallback proxy", r"^ray::ProxyActor\b"),
    Target("learning actor", r"^ray::\S*LearningActor\b"),
    Target("Ray log monitor", r"/log_monitor\.py\b", replaced=False),
    Target("Ray autoscaler monitor", r"/autoscaler/_private/monitor\.py\b", replaced=False),
    Target("Ray dashboard", r"/dashboard/dashboard\.py\b", replaced=False),
    Target("Ray dashboard agent", r"^ray::DashboardAgent\b", carries=True, restarts=True),
    Target("Ray runtime env agent", r"^ray::RuntimeEnvAgent\b", carries=True, restarts=True),
    Target("Ray raylet", r"/raylet/raylet ", carries=True, restarts=True),
    Target("Ray GCS", r"/gcs/gcs_server ", carries=True, restarts=True),
    Target("Serve's starter", r"-m serve_app\.local_serve ", carries=True, restarts=True),
)


@dataclass(frozen=True, slots=True)
class Blow:
    """One signal to one target."""

    target: Target
    signal: signal.Signals

    @property
    def name(self) -> str:
        model = ", model down" if self.target.model_down else ""
        restart = ", all restarted" if self.target.restarts else ""
        return f"{self.signal.name} {self.target.name}{model}{restart}"


def blows(only: list[str]) -> list[Blow]:
    """Every process killed, carriers of requests stopped too; ``only`` keeps what holds a word."""
    every = [Blow(target, sig) for target in TARGETS for sig in (KILL, STOP)]
    every += [Blow(target, KILL) for target in HELPERS]
    return [b for b in every if not only or any(word.lower() in b.name.lower() for word in only)]
