"""The service as `make run` starts it."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import httpx
import psutil
import pytest

from loadtest.service import Service, start
from tests.integration.conftest import assert_valid
from tests.support.bench import EXAMPLE

pytestmark = pytest.mark.integration


def loaded_files(service: Service) -> set[str]:
    """Every file that a process of Serve has mapped; the launcher is none of them."""
    files: set[str] = set()
    for pid in service.processes().keys() - {service.process.pid}:
        with suppress(psutil.Error):  # it has ended meanwhile
            files |= {each.path for each in psutil.Process(pid).memory_maps()}
    return files


def until(holds: Callable[[], bool], limit_s: float) -> None:
    pause = threading.Event().wait
    assert any(holds() or pause(0.2) for _ in range(int(limit_s / 0.2)))


def pid_of(service: Service, command: str) -> int:
    return next(pid for pid, line in service.processes().items() if command in line)


def test_fresh_machine_forecasts_with_the_embedded_model_also_after_an_agent_of_ray_died() -> None:
    service = start()
    try:
        service.wait_ready()
        service.wait_ready(path="/runtime/health/ready")
        url = f"{service.url}/tsfm/forecast"
        answer = httpx.post(url, content=EXAMPLE, timeout=10, trust_env=False).json()
        before, files = service.processes(), loaded_files(service)
        starter = psutil.Process(pid_of(service, "serve_app.launch.local_serve"))
        admin_socket = starter.environ()["RAY_SERVE_HAPROXY_SOCKET_PATH"]
        mode = Path(admin_socket).parent.stat().st_mode & 0o777
        os.kill(pid_of(service, "ray::DashboardAgent"), SIGKILL)
        until(lambda: "The service answers again." in service.log(), 120)
        again = service.processes()
        ready = service.is_ready()
    finally:
        left = service.stop()

    assert_valid(answer)
    assert any("/numpy/" in path for path in files)
    assert not any("/pandas/" in path for path in files)
    assert "--disable-frontend" in " ".join(before.values())  # of Ray's dashboard: no pages
    meta = answer["meta"]
    assert (meta["model_name"], meta["fallback_used"]) == ("fracast-0", False)
    assert answer["yhat_q"]["0.1"][-1] < answer["yhat_q"]["0.9"][-1]
    assert mode == 0o700
    assert ready
    assert before.keys() & again.keys() == {service.process.pid}
    assert left == []
    assert not Path(admin_socket).parent.exists()
