"""What the processes of a service hold: memory, open files, threads; of all, every few seconds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import psutil

from loadtest.chaos.targets import TARGETS

MB = 1024 * 1024
_OTHERS = (  # of Serve and Ray; names as people know them
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
OURS = frozenset(target.name for target in TARGETS)  # what the project starts, Serve's and its own


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment. PSS counts memory that several share in parts: sums are right."""

    name: str
    pss_mb: float
    fds: int
    threads: int


@dataclass(frozen=True, slots=True)
class Look:
    """All processes at one moment, by id, in seconds since the traffic began."""

    at_s: float
    readings: Mapping[int, Reading]


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


def look(processes: Mapping[int, str], at_s: float) -> Look:
    """Reads every process that is still there."""
    readings = {}
    for pid, line in processes.items():
        try:
            readings[pid] = _read(psutil.Process(pid), name_of(line))
        except psutil.Error:  # it has ended meanwhile
            continue
    return Look(at_s, readings)


def _read(process: psutil.Process, name: str) -> Reading:
    pss = process.memory_full_info().pss  # from /proc/PID/smaps_rollup
    return Reading(name, pss / MB, process.num_fds(), process.num_threads())
