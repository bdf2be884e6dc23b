"""A stand-in for the tollama daemon: the same contract over real HTTP, with set speed and faults.

    python -m loadtest.stub_tollama --port 0 --ms-per-call 37 --ms-per-series 0.9

prints ``{"url": ...}`` once it listens. ``POST /_control``, ``GET /_stats`` and ``POST /_reset``
steer it while it runs; ``--help`` lists the faults.
"""

import argparse
import asyncio
import json
import os
import socket
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loadtest.stub.app import Settings, build_app
from loadtest.stub.faults import KINDS, TRANSPORTS, Fault, parse_fault


class Server(uvicorn.Server):
    """Ends the process at the first signal, with calls that hang under way."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        os._exit(0)


class TrackedProtocol(HttpToolsProtocol):
    """Keeps each caller's transport: a TCP reset needs it, and ASGI does not give it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        if self.client:
            TRANSPORTS[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            TRANSPORTS.pop(self.client, None)
        super().connection_lost(exc)


def main(argv: list[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    settings = Settings(args.ms_per_call, args.ms_per_series, tuple(args.model or ["mock"]))
    app = build_app(settings, args.fault)
    config = uvicorn.Config(
        app, http=TrackedProtocol, log_level="error", access_log=False, lifespan="off"
    )
    listener = socket.create_server((args.host, args.port))
    host, port = listener.getsockname()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    Server(config).run(sockets=[listener])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.stub_tollama",
        description="A stand-in for the tollama daemon.",
        epilog="faults: " + ", ".join(sorted(KINDS)),
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 takes a free one and prints it")
    add("--ms-per-call", type=float, default=37.0, help="fixed inference time of a call")
    add("--ms-per-series", type=float, default=0.9, help="inference time per series on top")
    add("--model", action="append", help="an installed model (mock); * for any")
    add("--fault", type=_fault_argument, metavar="KIND[=ARG]")
    return parser


def _fault_argument(text: str) -> Fault:
    try:
        return parse_fault(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


if __name__ == "__main__":
    main()
