"""Decides when the launcher's local cluster is dead, and how often it is started again.

Ray does not survive the death of its raylet, of its GCS or of an agent of the raylet, and Serve
cannot repair that. The decisions are functions of observations; ``Watch`` observes.
"""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.request import ProxyHandler, build_opener

import psutil

VITAL = ("raylet", "gcs_server")  # Ray does not restart these; a dead agent ends its raylet too
START_LIMIT_S = 300.0  # usually 20; 90 was seen on a busy machine
# Serve's own repairs come first: it restarts a dead HAProxy in 10 s and a single ingress in 20. And
# overload must not count as a death.
SILENCE_LIMIT_S = 60.0
MISSES_LIMIT = 6  # failed checks: after an hour of sleep of the machine the time alone is no proof
RESTART_PAUSES_S = (1.0, 5.0, 15.0, 30.0)  # one more death in a row, and the launcher gives up
HEALTHY_S = 30.0  # after answers for this long the count of deaths starts again
CHECK_TIMEOUT_S = 2.0
KILL_LIMIT_S = 10.0
POLL_S = 0.1
# Ignores http_proxy: the service is local. 1 ms of CPU for each check, where httpx.get takes 35.
_OPENER = build_opener(ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Life:
    """The observations of one start of the cluster; seconds of one monotonic clock."""

    started_s: float
    first_answer_s: float | None = None
    last_answer_s: float | None = None
    misses: int = 0  # checks in a row without an answer

    def after(self, now_s: float, *, answered: bool) -> Self:
        """The observations after one more check."""
        if not answered:
            return replace(self, misses=self.misses + 1)
        first_s = now_s if self.first_answer_s is None else self.first_answer_s
        return replace(self, first_answer_s=first_s, last_answer_s=now_s, misses=0)


def cause_of_death(
    life: Life, now_s: float, *, exit_code: int | None, ended: Sequence[str]
) -> str | None:
    """Why the cluster must be started again; None while it lives.

    ``exit_code`` is that of the process that runs Serve, None while it runs; ``ended`` are the
    names of vital processes that have ended.
    """
    if exit_code is not None:
        return f"Serve ended with code {exit_code}"
    if ended:
        return f"Ray's {' and '.join(ended)} ended"
    since_s = life.started_s if life.last_answer_s is None else life.last_answer_s
    limit_s = START_LIMIT_S if life.last_answer_s is None else SILENCE_LIMIT_S
    if life.misses >= MISSES_LIMIT and now_s - since_s >= limit_s:
        return f"no answer for {now_s - since_s:.0f} s"
    return None


def deaths_in_a_row(before: int, life: Life) -> int:
    """The count of deaths in a row, this one included; ``before`` is the count without it."""
    if life.first_answer_s is None or life.last_answer_s is None:
        return before + 1
    return 1 if life.last_answer_s - life.first_answer_s >= HEALTHY_S else before + 1


@dataclass(slots=True)
class Watch:
    """Checks one start of the cluster, whose ``url`` must answer with 200."""

    child: subprocess.Popen[Any]  # runs Serve
    url: str
    clock_s: Callable[[], float]
    life: Life
    vital: Mapping[str, psutil.Process] = field(default_factory=dict)

    def check(self) -> str | None:
        """One check; returns why the cluster is dead, or None."""
        if self.life.first_answer_s is None:
            self.vital = {**self.vital, **vital_children(self.child.pid)}
        ended = sorted(name for name, process in self.vital.items() if has_ended(process))
        answered = not ended and answers(self.url)
        now_s = self.clock_s()
        self.life = self.life.after(now_s, answered=answered)
        return cause_of_death(self.life, now_s, exit_code=self.child.poll(), ended=ended)


def vital_children(pid: int) -> dict[str, psutil.Process]:
    """The children of ``pid`` that the cluster cannot do without, by name."""
    found: dict[str, psutil.Process] = {}
    with contextlib.suppress(psutil.Error):
        found = {child.name(): child for child in psutil.Process(pid).children()}
    return {name: child for name, child in found.items() if name in VITAL}


def has_ended(process: psutil.Process) -> bool:
    """Whether the process has ended or is a zombie."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def answers(url: str) -> bool:
    """Whether the URL answers with 200 in time."""
    return body_of(url) is not None


def body_of(url: str) -> bytes | None:
    """The body of an answer with 200 in time, else None."""
    try:
        with _OPENER.open(url, timeout=CHECK_TIMEOUT_S) as response:
            return response.read() if response.status == 200 else None
    except (OSError, ValueError):  # URLError is an OSError
        return None


def session(leader: int) -> list[psutil.Process]:
    """The processes of a session: they stay in it when their parents die."""
    return [p for p in psutil.process_iter() if _session_of(p.pid) == leader and not has_ended(p)]


def end_session(leader: int, patience_s: float) -> None:
    """Waits until a session has no processes; after ``patience_s`` kills those that are left."""
    pause = threading.Event().wait
    for polls in range(int((patience_s + KILL_LIMIT_S) / POLL_S)):
        left = session(leader)  # psutil.wait_procs would wait for zombies too
        if not left:
            return
        if polls * POLL_S >= patience_s:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        pause(POLL_S)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # the process has ended, or belongs to another user
        return None
