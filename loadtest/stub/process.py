"""The stand-in as a process of its own: start it, steer it, stop it."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parents[2]


class StubProcess:
    """A running stand-in; leaving the ``with`` block stops it."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.start()

    def start(self, *more: str) -> None:
        """Starts ``python -m loadtest.stub_tollama`` and returns when it listens."""
        command = [sys.executable, "-m", "loadtest.stub_tollama", *self._arguments, *more]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # empty when the process has ended
        if not line:
            self.process.stdout.close()
            raise RuntimeError(f"the stand-in runtime ended with code {self.process.wait()}")
        self.url: str = json.loads(line)["url"]

    def start_again(self) -> None:
        """Starts it on the port where it was stopped."""
        self.start("--port", str(urlsplit(self.url).port))

    def control(self, **order: Any) -> None:
        """``fault``, ``ms_per_call``, ``ms_per_series``."""
        self._post("/_control", order)

    def reset(self) -> None:
        """No fault, empty records."""
        self._post("/_reset", {})

    def stats(self) -> dict[str, Any]:
        with httpx.Client(trust_env=False) as client:
            stats: dict[str, Any] = client.get(f"{self.url}/_stats").raise_for_status().json()
        return stats

    def stop(self) -> None:
        """Ends the process; one that does not listen to SIGTERM is killed after 10 s."""
        guard = threading.Timer(10, self.process.kill)
        guard.start()
        self.process.terminate()
        self.process.wait()
        guard.cancel()
        if self.process.stdout:
            self.process.stdout.close()

    def _post(self, path: str, body: dict[str, Any]) -> None:
        with httpx.Client(trust_env=False) as client:
            client.post(f"{self.url}{path}", json=body).raise_for_status()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
