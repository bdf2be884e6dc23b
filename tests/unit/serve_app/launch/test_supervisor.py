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

from serve_app.launch.launcher import NO_RUNTIME, NOT_INSTALLED, model_note
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


def checked(life: Life, *checks: tuple[float, bool]) -> Life:
    for now_s, answered in checks:
        life = life.after(now_s, answered=answered)
    return life


UP = checked(Life(started_s=0), (10, True))
OFTEN = checked(UP, *((11 + n / 10, False) for n in range(MISSES_LIMIT)))
ASLEEP = checked(UP, (5000, False))  # the machine, for more than an hour
SILENT = checked(UP, *((11.0 + n, False) for n in range(int(SILENCE_LIMIT_S))))
STARTING = checked(Life(started_s=0), *((float(n), False) for n in range(MISSES_LIMIT)))
LATER = 10 + SILENCE_LIMIT_S


@pytest.mark.parametrize(
    ("life", "now_s", "exit_code", "ended", "cause"),
    [
        (UP, 11, None, [], None),
        (UP, 11, -9, [], "Serve ended with code -9"),
        (UP, 11, None, ["raylet"], "Ray's raylet ended"),
        (OFTEN, 12, None, [], None),
        (ASLEEP, 5000, None, [], None),
        (SILENT, LATER, None, [], "no answer for 60 s"),
        (checked(SILENT, (LATER, True)), LATER, None, [], None),
        (STARTING, START_LIMIT_S - 1, None, [], None),
        (STARTING, START_LIMIT_S, None, [], "no answer for 300 s"),
    ],
)
def test_cluster_is_dead_when_a_process_ended_or_after_a_long_silence(
    life: Life, now_s: float, exit_code: int | None, ended: list[str], cause: str | None
) -> None:
    assert cause_of_death(life, now_s, exit_code=exit_code, ended=ended) == cause


def test_count_of_deaths_starts_again_after_a_healthy_time() -> None:
    sick = checked(UP, (10 + HEALTHY_S - 1, True))
    healthy = checked(UP, (10 + HEALTHY_S, True))

    assert deaths_in_a_row(3, Life(started_s=0)) == 4
    assert deaths_in_a_row(3, sick) == 4
    assert deaths_in_a_row(3, healthy) == 1


@contextmanager
def server(status: int, body: bytes = b"") -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

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


@pytest.mark.parametrize(("status", "ready"), [(200, True), (404, False), (503, False)])
def test_check_calls_the_service_itself_and_no_proxy(
    status: int, ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    with server(status) as url:
        assert answers(url) is ready
    assert answers(url) is False


@pytest.mark.parametrize(
    ("installed", "expected", "reads"),
    [(b"true", "", 0), (b"false", NOT_INSTALLED.format("m"), 0), (b"null", NO_RUNTIME, 20)],
)
def test_start_says_whether_the_runtime_has_the_default_model(
    installed: bytes, expected: str, reads: int
) -> None:
    pauses: list[float] = []
    with server(200, b'{"default_model":"m","default_model_installed":%b}' % installed) as url:
        note = model_note(url, pauses.append)

    assert note == expected
    assert len(pauses) == reads


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


def test_processes_left_in_a_session_are_ended(started: subprocess.Popen[str]) -> None:
    assert started.stdout is not None
    child = psutil.Process(int(started.stdout.readline()))
    started.kill()
    started.wait()
    assert [process.pid for process in session(started.pid)] == [child.pid]

    end_session(started.pid, 0.0)

    assert has_ended(child)
    assert session(started.pid) == []


def test_processes_of_other_sessions_are_not_ended(started: subprocess.Popen[str]) -> None:
    end_session(os.getpid() if os.getsid(0) != os.getpid() else 1 << 22, 0.0)

    assert started.poll() is None


STARTS = "import subprocess, sys; subprocess.Popen([sys.argv[1], '60']).wait(); sys.stdin.read()"


def test_raylet_that_ended_is_found_though_its_parent_still_runs(tmp_path: Path) -> None:
    raylet = shutil.copy(shutil.which("sleep") or "", tmp_path / "raylet")
    command = [sys.executable, "-c", STARTS, str(raylet)]
    with server(200) as url, subprocess.Popen(command, stdin=subprocess.PIPE) as starter:
        watch = Watch(starter, url, lambda: 1.0, Life(started_s=0))
        until(lambda: "raylet" in vital_children(starter.pid))
        assert watch.check() is None
        assert watch.life == Life(0, first_answer_s=1.0, last_answer_s=1.0)

        watch.vital["raylet"].kill()

        until(lambda: watch.check() is not None)
        cause = watch.check()
        starter.kill()
    assert cause == "Ray's raylet ended"
    assert watch.check() is not None
    assert vital_children(starter.pid) == {}
