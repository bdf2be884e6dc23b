import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from serve_app.launch.supervisor import (
    HEALTHY_S,
    MISSES_LIMIT,
    SILENCE_LIMIT_S,
    START_LIMIT_S,
    Life,
    Watch,
    answers,
    cause_of_death,
    deaths_in_a_row,
    end_session,
    has_ended,
    session,
    vital_children,
)

FORKS = "import os, signal; pid = os.fork(); pid and print(pid, flush=True); signal.pause()"


def looked(life: Life, *looks: tuple[float, bool]) -> Life:
    for now_s, answered in looks:
        life = life.after(now_s, answered=answered)
    return life


UP = looked(Life(started_s=0), (10, True))


def test_cluster_that_answers_lives() -> None:
    assert cause_of_death(UP, 11, exit_code=None, ended=[]) is None


def test_serve_that_ended_is_a_dead_cluster() -> None:
    cause = cause_of_death(UP, 11, exit_code=-9, ended=[])

    assert cause == "Serve ended with code -9"


def test_raylet_that_ended_is_a_dead_cluster_though_it_still_answers() -> None:
    cause = cause_of_death(UP, 11, exit_code=None, ended=["raylet"])

    assert cause == "Ray's raylet ended"


def test_silence_counts_only_when_it_is_long_and_was_seen_often() -> None:
    short = looked(UP, *((11 + n / 10, False) for n in range(MISSES_LIMIT)))
    slept = looked(UP, (5000, False))
    long = looked(UP, *((11.0 + n, False) for n in range(int(SILENCE_LIMIT_S))))
    after = 10 + SILENCE_LIMIT_S

    assert cause_of_death(short, 12, exit_code=None, ended=[]) is None
    assert cause_of_death(slept, 5000, exit_code=None, ended=[]) is None
    assert cause_of_death(long, after, exit_code=None, ended=[]) == "no answer for 60 s"
    again = looked(long, (after, True))
    assert cause_of_death(again, after, exit_code=None, ended=[]) is None


def test_start_has_more_time_than_an_answer() -> None:
    silent = looked(Life(started_s=0), *((float(n), False) for n in range(MISSES_LIMIT)))

    assert cause_of_death(silent, START_LIMIT_S - 1, exit_code=None, ended=[]) is None
    assert cause_of_death(silent, START_LIMIT_S, exit_code=None, ended=[]) == "no answer for 300 s"


def test_deaths_are_counted_anew_after_a_healthy_while() -> None:
    sick = looked(UP, (10 + HEALTHY_S - 1, True))
    healthy = looked(UP, (10 + HEALTHY_S, True))

    assert deaths_in_a_row(3, Life(started_s=0)) == 4
    assert deaths_in_a_row(3, sick) == 4
    assert deaths_in_a_row(3, healthy) == 1


@contextmanager
def server(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/readyz"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "well"), [(200, True), (404, False), (503, False)])
def test_look_asks_the_service_itself_whatever_proxy_is_set(
    status: int, well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    with server(status) as url:
        assert answers(url) is well
    assert answers(url) is False


def until(holds: Callable[[], bool]) -> None:
    pause = threading.Event().wait
    assert any(holds() or pause(0.02) for _ in range(500))


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, with a child in another process group."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_what_a_dead_process_left_in_its_session_is_ended(started: subprocess.Popen[str]) -> None:
    assert started.stdout is not None
    child = psutil.Process(int(started.stdout.readline()))
    started.kill()
    started.wait()
    assert [process.pid for process in session(started.pid)] == [child.pid]

    end_session(started.pid, 0.0)

    assert has_ended(child)
    assert session(started.pid) == []


def test_processes_of_other_sessions_are_left_alone(started: subprocess.Popen[str]) -> None:
    end_session(os.getpid() if os.getsid(0) != os.getpid() else 1 << 22, 0.0)

    assert started.poll() is None


def test_a_killed_process_has_ended_before_anybody_reaps_it(
    started: subprocess.Popen[str],
) -> None:
    process = psutil.Process(started.pid)
    assert not has_ended(process)

    started.kill()

    until(lambda: has_ended(process))


STARTS = "import subprocess, sys; subprocess.Popen([sys.argv[1], '60']).wait(); sys.stdin.read()"


def test_watch_sees_that_a_raylet_ended_though_its_parent_goes_on(tmp_path: Path) -> None:
    raylet = shutil.copy(shutil.which("sleep") or "", tmp_path / "raylet")
    command = [sys.executable, "-c", STARTS, str(raylet)]
    with server(200) as url, subprocess.Popen(command, stdin=subprocess.PIPE) as starter:
        watch = Watch(starter.pid, url, starter.poll, lambda: 1.0, Life(started_s=0))
        until(lambda: "raylet" in vital_children(starter.pid))
        assert watch.look() is None
        assert watch.life == Life(0, first_answer_s=1.0, last_answer_s=1.0)

        watch.vital["raylet"].kill()

        until(lambda: watch.look() is not None)
        cause = watch.look()
        starter.kill()
    assert cause == "Ray's raylet ended"
    assert watch.look() is not None
    assert vital_children(starter.pid) == {}
