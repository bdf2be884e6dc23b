import os
import socket
import subprocess
import sys

import pytest

from serve_app.launch.listeners import Listener, exposure, exposure_of, listeners_of


@pytest.mark.parametrize(
    ("address", "reachable"),
    [
        *((one, False) for one in ("127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1")),
        *((one, True) for one in ("0.0.0.0", "::", "192.0.2.7", "2001:db8::1")),
    ],
)
def test_only_ports_that_other_machines_reach_are_listed(address: str, reachable: bool) -> None:
    line = exposure([Listener("raylet", port, address) for port in (4711, 4711, 80)])

    assert ("machines: raylet 80 4711." in line) is reachable
    assert (line == "Nothing listens beyond this machine.") is not reachable


def test_listening_sockets_of_a_process_and_its_children_are_found() -> None:
    code = (
        "import socket,sys; s=socket.create_server(('127.0.0.1',0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as ours,
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child,
    ):
        assert child.stdout
        ports = {ours.getsockname()[1], int(child.stdout.readline())}
        found = {(x.port, x.address) for x in listeners_of(os.getpid())}
        child.communicate()

    assert {(port, "127.0.0.1") for port in ports} <= found


def test_ports_are_read_again_until_the_service_s_own_port_is_among_them() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        line = exposure_of(os.getpid(), late.getsockname()[1], lambda _: late.listen())

    assert "cannot be read" not in line


def test_exposure_that_cannot_be_read_is_reported_as_such() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    pauses: list[float] = []

    assert "cannot be read" in exposure_of(ended.pid, 1, pauses.append)
    assert pauses == []
    assert "cannot be read" in exposure_of(os.getpid(), 1, pauses.append)  # no such port
    assert sum(pauses) == 10.0
