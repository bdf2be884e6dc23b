"""The stand-in as a process of its own: start it, steer it, stop it."""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class StubProcess:
    """A running stand-in; leaving the ``with`` block stops it."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def control(self, **order: Any) -> None:
        """``fault``, ``arg``, ``share``, ``count``, ``items``, ``ms_per_call``, ..."""
        self._post("/_control", order)

    def reset(self) -> None:
        """No fault, empty records."""
        self._post("/_reset", {})

    def stats(self) -> dict[str, Any]:
        with httpx.Client(trust_env=False, verify=False) as client:
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
        with httpx.Client(trust_env=False, verify=False) as client:
            client.post(f"{self.url}{path}", json=body).raise_for_status()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_stub(*arguments: str) -> StubProcess:
    """Starts ``python -m loadtest.stub_tollama`` and returns once it listens.

    Raises:
        RuntimeError: it ended before that; its own words are on stderr.
    """
    command = [sys.executable, "-m", "loadtest.stub_tollama", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()  # empty when the process has ended
    if not line:
        process.stdout.close()
        raise RuntimeError(f"the stand-in runtime ended with code {process.wait()}")
    return StubProcess(json.loads(line)["url"], process)
