"""The least that Serve can do, to compare with: one deployment, and two with a call between them.

They read the body and answer a constant of the size of a forecast. The second deployment takes the
time of a runtime, one call after the other: a call is for all requests that wait when it begins,
and takes ``call_ms``, and ``series_ms`` for each of them, as the query says.
"""

import asyncio
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SPEED = ("call_ms", "series_ms")
ANSWER = b'{"yhat_q":[' + b",".join([b"0.123456789"] * 100) + b"]}"


class NoopReplica:
    """An ingress that answers at once, or after one call to another deployment."""

    def __init__(self, other: DeploymentHandle[Any] | None = None) -> None:
        self._other = other

    def __serve_build_asgi_app__(self) -> Starlette:
        async def answer(request: Request) -> Response:
            await request.body()
            if self._other is None:
                return Response(ANSWER, media_type="application/json")
            speed = (float(request.query_params.get(name, "0")) for name in SPEED)
            content = await self._other.answer.remote(*speed)
            return Response(content, media_type="application/json")

        return Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])


class SharedCall:
    """A call of the second deployment; the first of its requests makes it."""

    def __init__(self) -> None:
        self.requests = 0
        self.ended = asyncio.Event()


class EchoReplica:
    """A runtime that computes nothing: it only takes its time."""

    def __init__(self) -> None:
        self._calls = asyncio.Lock()  # only for the first of each call: the next one leaves at once
        self._next = SharedCall()

    async def answer(self, call_ms: float, series_ms: float) -> bytes:
        mine = self._next
        mine.requests += 1
        if mine.requests > 1:
            await mine.ended.wait()
            return ANSWER
        async with self._calls:
            self._next = SharedCall()
            await asyncio.sleep((call_ms + series_ms * mine.requests) / 1e3)
        mine.ended.set()
        return ANSWER


Noop = serve.deployment(name="Noop")(serve.ingress()(NoopReplica))
Echo = serve.deployment(name="Echo")(EchoReplica)


def build_one(_: dict[str, Any]) -> Application:
    return Noop.bind()


def build_two(_: dict[str, Any]) -> Application:
    return Noop.bind(Echo.bind())
