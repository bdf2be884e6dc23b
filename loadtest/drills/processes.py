"""The processes of a service by the names people know them by, and what they hold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import psutil

from loadtest.chaos.targets import TARGETS

MB = 1024 * 1024
_LEARNING = "learning actor"  # there where conformal.online is on
_OTHERS = (  # of Serve and Ray
    (r"^ray::\S*LearningActor\b", _LEARNING),
    (r"^ray::\S*(HAProxyManager|ProxyActor)\b", "Serve proxy actor"),
    (r"^ray::IDLE", "Ray idle worker"),
    (r"/gcs_server\b", "Ray GCS"),
    (r"/raylet\b", "Ray raylet"),
    (r"runtime_env/agent", "Ray runtime env agent"),
    (r"dashboard/agent", "Ray dashboard agent"),
    (r"dashboard/dashboard", "Ray dashboard"),
    (r"ray-dashboard-(\w+)", "Ray dashboard"),
    (r"log_monitor", "Ray log monitor"),
    (r"monitor", "Ray autoscaler monitor"),
    (r"\bserve run\b", "serve run"),
)
OURS = frozenset({_LEARNING, *(target.name for target in TARGETS)})  # what the project starts


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment.

    ``pss_mb`` has a part of what several share, so that sums are right. It also moves when somebody
    else on the machine starts or ends; a leak is looked for in ``own_mb``, which nobody shares.
    """

    name: str
    pss_mb: float
    own_mb: float
    fds: int
    threads: int


def name_of(line: str) -> str:
    """A process by its command line, as the tables call it."""
    for target in TARGETS[:-1]:  # the last one is the runtime, which is not the service's
        if re.search(target.pattern, line):
            return target.name
    for pattern, name in _OTHERS:
        if re.search(pattern, line):
            return name
    if actor := re.match(r"ray::(\w+)", line):
        return actor[1]
    return PurePath(line.split(" ", 1)[0]).name or "?"


def readings_of(processes: Mapping[int, str]) -> dict[int, Reading]:
    """Reads every process that is still there."""
    found = {}
    for pid, line in processes.items():
        try:
            found[pid] = _read(psutil.Process(pid), name_of(line))
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def _read(process: psutil.Process, name: str) -> Reading:
    memory = process.memory_full_info()  # from /proc/PID/smaps_rollup
    counts = (process.num_fds(), process.num_threads())
    return Reading(name, memory.pss / MB, memory.uss / MB, *counts)
