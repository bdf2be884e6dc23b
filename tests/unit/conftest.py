"""Traps: a unit test that sleeps, starts Ray or leaves the machine is in the wrong folder."""

import socket
import time
from typing import Any

import pytest
import ray

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_waiting_no_ray_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unit tests do not sleep, start Ray or leave the machine")

    connect = socket.socket.connect

    def connect_nearby(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            refuse()
        connect(self, address)

    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(socket.socket, "connect", connect_nearby)
