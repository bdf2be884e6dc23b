"""The processes of a service by name, and their memory, files and threads."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import psutil

MB = 1024 * 1024
RUNTIME, LEARNING = "runtime", "learning actor"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of process; ``pattern`` finds its command line.

    Attributes:
        carries: connections of callers run through it, and may be lost with it.
        model_down: the runtime fails as well; otherwise the process would not be used.
        restarts: its end makes the launcher start everything again.
        replaced: another process takes its place.
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
    Kind("Runner replica", r"^ray::\S*ServeReplica:tsfm:Runner\b"),
    Kind("Ingress replica", r"^ray::\S*ServeReplica:tsfm:Ingress\b", carries=True),
    Kind("Baseline replica", r"^ray::\S*ServeReplica:tsfm:Baseline\b", model_down=True),
    Kind("breaker actor", r"^ray::\S*BreakerActor\b"),
    Kind("proxy (HAProxy)", r"/haproxy -db -f ", carries=True),
    Kind("Serve controller", r"^ray::\S*ServeController\b"),
    Kind(RUNTIME, r"^$"),  # started by the drill, which has its id
)
# Processes of Ray and Serve that handle no requests: only killed, not stopped. Those that restart
# everything alternate with others: five restarts without 30 s of answers between them end the
# launcher.
HELPERS = (
    Kind("Serve proxy manager", r"^ray::HAProxyManager\b", carries=True),
    Kind("Ray dashboard agent", r"^ray::DashboardAgent\b", carries=True, restarts=True),
    Kind("Serve fallback proxy", r"^ray::ProxyActor\b"),
    Kind("Ray runtime env agent", r"^ray::RuntimeEnvAgent\b", carries=True, restarts=True),
    Kind(LEARNING, r"^ray::\S*LearningActor\b"),
    Kind("Ray raylet", r"/raylet/raylet ", carries=True, restarts=True),
    Kind("Ray log monitor", r"/log_monitor\.py\b", replaced=False),
    Kind("Ray GCS", r"/gcs/gcs_server ", carries=True, restarts=True),
    Kind("Ray autoscaler monitor", r"/autoscaler/_private/monitor\.py\b", replaced=False),
    Kind("Serve's starter", r"-m serve_app\.launch\.local_serve ", carries=True, restarts=True),
    Kind("Ray dashboard", r"/dashboard/dashboard\.py\b", replaced=False),
)
OURS = frozenset({LEARNING, *(kind.name for kind in TARGETS)})  # started by the project itself


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment.

    ``pss_mb`` includes a share of shared memory, so that sums are right; it also changes when other
    processes start or end. Leaks are measured in ``own_mb``, which is not shared.
    """

    name: str
    pss_mb: float
    own_mb: float
    fds: int
    threads: int


def name_of(line: str) -> str:
    """The name of a process in the tables, from its command line."""
    for kind in (*TARGETS[:-1], *HELPERS):  # without the runtime: it is not part of the service
        if re.search(kind.pattern, line):
            return kind.name
    if line.startswith("ray::IDLE"):
        return "Ray idle worker"
    if actor := re.match(r"ray::(\w+)", line):
        return actor[1]
    return PurePath(line.split(" ", 1)[0]).name or "?"


def readings_of(processes: Mapping[int, str]) -> dict[int, Reading]:
    """Reads every process that has not ended."""
    found = {}
    for pid, line in processes.items():
        try:
            found[pid] = _read(psutil.Process(pid), name_of(line))
        except psutil.Error:  # it has ended
            continue
    return found


def _read(process: psutil.Process, name: str) -> Reading:
    memory = process.memory_full_info()  # from /proc/PID/smaps_rollup
    counts = (process.num_fds(), process.num_threads())
    return Reading(name, memory.pss / MB, memory.uss / MB, *counts)
