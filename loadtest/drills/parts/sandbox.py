"""Namespaces of our own: a bridge, nodes with addresses behind it, and an end that takes all along.

Everything runs below one process in namespaces for processes, mounts and networks: no address of
the machine is used, and when that process ends the kernel ends all that it started.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GATEWAY = "10.88.0.1"  # where the load generator and the runtimes are
_PR_SET_PDEATHSIG = 1
_MARK = "TSFM_CLUSTER_SANDBOX"


@dataclass(frozen=True, slots=True)
class Place:
    """A node's network: a namespace and the address in it."""

    number: int

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def ip(self) -> str:
        return f"10.88.0.{10 + self.number}"

    @property
    def within(self) -> list[str]:
        """The first words of a command that runs there."""
        return ["ip", "netns", "exec", self.name]

    def machine(self, disk: Path, at: Path) -> list[str]:
        """What a command starts with to run there as on a machine of its own.

        It sees no processes but its own, and ``disk`` at the path ``at``. Ray looks for both: a
        head does not start where it finds files and a raylet of another one at its address.
        """
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        shell = ["sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(disk), str(at)]
        return [*self.within, *alone, *shell]

    def pids(self) -> list[int]:
        """Every process there."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self.name).split()]

    def unplug(self) -> None:
        """Pulls the cable out, for good."""
        _run("ip", "link", "set", f"v{self.number}", "down")


def enter(argv: Sequence[str], module: str) -> None:
    """Goes on in the sandbox; the process that calls this waits for it, and ends it when it ends.

    `unshare` itself does not listen to SIGTERM.
    """
    if os.environ.pop(_MARK, None):
        _lay_out()
        return
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = ["unshare", *rights, *spaces, sys.executable, "-m", module, *argv]
    inside = subprocess.Popen(command, env=os.environ | {_MARK: "1"}, preexec_fn=_die_with_parent)  # noqa: PLW1509 - one call
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: inside.kill())
    code = inside.wait()
    sys.exit(code if code >= 0 else 128 - code)  # as shells say it


def _die_with_parent() -> None:
    """Asks the kernel for SIGKILL when the parent process ends, for any reason."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def make_place(number: int) -> Place:
    """A new network with a cable to the bridge."""
    place = Place(number)
    cable = f"v{number}"
    _run("ip", "netns", "add", place.name)
    _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", place.name)
    _run("ip", "link", "set", cable, "master", "br0", "up")
    _run("ip", "-n", place.name, "addr", "add", f"{place.ip}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run("ip", "-n", place.name, "link", "set", device, "up")
    return place


def _lay_out() -> None:
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")  # where names of networks are kept
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "br0", "type", "bridge")
    _run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "br0")
    _run("ip", "link", "set", "br0", "up")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
