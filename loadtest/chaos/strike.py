"""The blows themselves: signals to processes of this run, and to no others."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from loadtest.chaos.targets import KILL, RUNTIME, Target
from loadtest.service import Service
from loadtest.stub.process import StubProcess, start_stub

STUB = ("--model", "mock", "--ms-per-call", "20", "--ms-per-series", "0.5")


@dataclass(slots=True)
class Field:
    """The service and its runtime, which is another process after it was killed."""

    service: Service
    stub: StubProcess
    stopped: set[int] = field(default_factory=set)

    def processes(self, target: Target) -> list[int]:
        """The ids of the target's living processes."""
        if target.name == RUNTIME:
            return [self.stub.pid] if self.stub.process.poll() is None else []
        return target.found_in(self._of_service())

    async def strike(self, target: Target, sig: signal.Signals, pause_s: float) -> int:
        """Signals the newest of the target's processes; returns its id.

        A stopped process goes on after ``pause_s``, a killed runtime is started again then.
        Serve replaces its own.

        Raises:
            RuntimeError: there is no such process.
        """
        victims = await asyncio.to_thread(self.processes, target)
        if not victims:
            raise RuntimeError(f"no process of the {target.name} was found")
        victim = victims[-1]  # an older HAProxy may only be there to finish what it holds
        os.kill(victim, sig)
        if sig != KILL:
            self.stopped.add(victim)
            await asyncio.sleep(pause_s)
            self.go_on()
        elif target.name == RUNTIME:
            await asyncio.sleep(pause_s)
            await asyncio.to_thread(self._restart_runtime)
        return victim

    def go_on(self) -> None:
        """SIGCONT to all that were stopped."""
        while self.stopped:
            with contextlib.suppress(ProcessLookupError):  # Serve may have replaced it meanwhile
                os.kill(self.stopped.pop(), signal.SIGCONT)

    def _restart_runtime(self) -> None:
        port = urlsplit(self.stub.url).port
        self.stub.stop()
        self.stub = start_stub(*STUB, "--port", str(port))

    def _of_service(self) -> Mapping[int, str]:
        return self.service.processes()


async def seconds_until(
    holds: Callable[[], bool], limit_s: float, now_s: Callable[[], float]
) -> float | None:
    """How long it took until it held; None when it did not within the limit."""
    began = now_s()
    while not await asyncio.to_thread(holds):
        if now_s() - began > limit_s:
            return None
        await asyncio.sleep(0.2)
    return now_s() - began
