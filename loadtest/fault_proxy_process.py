"""The TCP fault proxy as a process of its own: what it carries must not slow the client down."""

import subprocess
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from loadtest.stub.process import announced


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A running proxy; leaving the ``with`` block stops it."""

    url: str
    control: str
    process: subprocess.Popen[bytes]

    def set(self, **toxics: Any) -> None:
        """Puts toxics in force; older connections are broken: not all would feel it."""
        self._call("POST", {"down": True})
        self._call("POST", toxics)

    def clear(self) -> None:
        """No toxics; connections that are open stay open."""
        self._call("DELETE", None)

    def connections(self) -> int:
        """How many it has accepted so far."""
        return int(self._call("GET", None)["connections"])

    def _call(self, method: str, toxics: Any) -> dict[str, Any]:
        with httpx.Client(trust_env=False) as client:
            answer = client.request(method, f"{self.control}/toxics", json=toxics)
        state: dict[str, Any] = answer.raise_for_status().json()
        return state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()


def start_proxy(upstream_url: str) -> ProxyProcess:
    """Starts ``python -m loadtest.fault_proxy`` and returns once it listens.

    Raises:
        RuntimeError: it ended before it listened.
    """
    process, told = announced("loadtest.fault_proxy", "--upstream", urlsplit(upstream_url).netloc)
    return ProxyProcess(told["url"], told["control"], process)
