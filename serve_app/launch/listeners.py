"""The service's ports that other machines can reach, read from the operating system.

Serve binds its own port as configured, but HAProxy's metrics and statistics and Ray's own ports
bind every address regardless of the configuration.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import psutil

_READS = 20
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A port on which a process of the service accepts connections."""

    process: str
    port: int
    address: str


def exposure_of(pid: int, port: int, pause: Callable[[float], object]) -> str:
    """One line about the ports of a process and its descendants beyond loopback.

    Serve replaces the HAProxy process once or twice during the start, and in between its sockets
    have no owner: so the ports are read again, after a pause, until ``port`` is among them.
    """
    with contextlib.suppress(psutil.Error):  # macOS shows this to root only
        for _ in range(_READS):
            found = listeners_of(pid)
            if port in {listener.port for listener in found}:
                return exposure(found)
            pause(_PAUSE_S)
    return "What listens beyond this machine cannot be read here."


def listeners_of(pid: int) -> list[Listener]:
    """Every listening TCP socket of a process and its descendants; psutil.Error if not allowed."""
    sockets = [s for s in psutil.net_connections("tcp") if s.status == psutil.CONN_LISTEN]
    root = psutil.Process(pid)
    names: dict[int | None, str] = {}
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # the process has ended meanwhile
            names[process.pid] = process.name().removeprefix("ray::")
    return [
        Listener(names[s.pid], s.laddr.port, s.laddr.ip)
        for s in sockets
        if s.laddr and s.pid in names
    ]


def exposure(listeners: Iterable[Listener]) -> str:
    """One line about the ports beyond loopback, grouped by process."""
    ports: dict[str, str] = {}
    for process, port in sorted(
        {(x.process, x.port) for x in listeners if not is_loopback(x.address)}
    ):
        ports[process] = f"{ports.get(process, process)} {port}"
    if not ports:
        return "Nothing listens beyond this machine."
    return (
        f"Reachable from other machines: {', '.join(ports.values())}. "
        "Keep a firewall in front: docs/security.md."
    )


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach the address."""
    ip = ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
