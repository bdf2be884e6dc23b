"""Recorded answers of a real tollama daemon; tests/data/tollama/README.md says where from."""

import json
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parents[1] / "data" / "tollama"


def recorded(name: str) -> dict[str, Any]:
    """The ``response`` of a recording: ``status``, ``headers`` and ``body``."""
    response: dict[str, Any] = _read(name)["response"]
    return response


def recorded_request(name: str) -> dict[str, Any]:
    """The JSON that was sent in a recording."""
    sent: dict[str, Any] = _read(name)["request"]["json"]
    return sent


def body_of(name: str) -> bytes:
    """The bytes of a recorded answer."""
    return json.dumps(recorded(name)["body"]).encode()


def answer(
    status: int, content: bytes | Any, headers: dict[str, str] | None = None
) -> httpx.Response:
    """An answer as it comes from a socket: not read yet (httpx reads ``content=`` at once)."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"content-type": "application/json"} | (headers or {})
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


def _read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
