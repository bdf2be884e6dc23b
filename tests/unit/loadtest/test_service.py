"""What a start of the service is given, and that its end leaves nothing; Serve is not run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.service import (
    Service,
    environment,
)

CONFIG: dict[str, Any] = {
    "proxy_location": "EveryNode",
    "http_options": {"port": 8000, "request_timeout_s": 30},
    "applications": [{"name": "a"}, {"name": "b"}],
}
CHILD_THAT_STAYS = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
PARENT = f"import subprocess as s, sys; s.run([sys.executable, '-c', {CHILD_THAT_STAYS!r} + %r])"


def a_service(folder: Path, code: str, url: str = "http://127.0.0.1:1") -> Service:
    (folder / "service.log").write_text("first\nlast words\n")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"RAY_TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    return Service(url, process, folder)


def close(service: Service) -> None:
    if service.process.stdout:
        service.process.stdout.close()


def test_a_start_knows_no_cluster_but_its_own():
    variables = environment({"RAY_ADDRESS": "auto", "PATH": "p"}, Path("/tmp/x"), 81, 20_000, True)

    assert "RAY_ADDRESS" not in variables
    assert variables["PATH"] == "p"
    assert variables["RAY_TMPDIR"] == "/tmp/x"
    assert variables["TSFM_TOLLAMA__BASE_URL"] == "http://127.0.0.1:81/runtime"
    assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == "1"


def test_a_service_that_ends_before_it_is_ready_is_reported_with_its_last_words(tmp_path: Path):
    service = a_service(tmp_path, "raise SystemExit(3)")
    service.process.wait()

    with pytest.raises(RuntimeError, match=r"(?s)ended with 3.*last words"):
        service.wait_ready(5)
    close(service)


def test_an_application_that_cannot_be_built_is_reported_at_once(tmp_path: Path):
    with a_service(tmp_path, "import time; time.sleep(60)") as service:
        (tmp_path / "service.log").write_text("Task build_serve_application failed. ValueError: x")

        with pytest.raises(RuntimeError, match=r"(?s)could not be built.*ValueError: x"):
            service.wait_ready()
        close(service)


@pytest.mark.skipif(not Path("/proc").exists(), reason="descendants are found through /proc")
def test_stopping_ends_descendants_that_do_not_listen_and_names_them(tmp_path: Path):
    service = a_service(tmp_path, PARENT % "; time.sleep(60)")
    assert service.process.stdout is not None
    service.process.stdout.readline()  # the child is deaf to SIGTERM from here on

    killed = service.stop(patience_s=0.5)

    assert len(killed) == 1
    assert "SIG_IGN" in killed[0]
    assert not tmp_path.exists()
    close(service)
