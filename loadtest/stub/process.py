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


def start_stub(*arguments: str) -> StubProcess:
    """Starts ``python -m loadtest.stub_tollama`` and returns once it listens.

    Raises:
        RuntimeError: see ``announced``.
    """
    process, told = announced("loadtest.stub_tollama", *arguments)
    return StubProcess(told["url"], process)


def announced(module: str, *arguments: str) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Starts one of our servers and returns once it has said where it listens.

    Raises:
        RuntimeError: it ended before that; its own words are on stderr.
    """
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()  # comes when it listens, or empty when it has ended
    if not line:
        process.stdout.close()
        raise RuntimeError(f"{module} ended with code {process.wait()}")
    told: dict[str, str] = json.loads(line)
    return process, told
