"""The least that Serve can do, to compare with: one deployment, and two with a call between them.

They read the body and answer a constant of the size of a forecast; the second deployment waits for
as many milliseconds as ``wait_ms`` in the query says, as the Runner waits for a runtime.
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
            wait_ms = float(request.query_params.get("wait_ms", "0"))
            content = await self._other.answer.remote(wait_ms)
            return Response(content, media_type="application/json")

        return Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])


class EchoReplica:
    """The other end of the call."""

    async def answer(self, wait_ms: float) -> bytes:
        if wait_ms:
            await asyncio.sleep(wait_ms / 1e3)
        return ANSWER


Noop = serve.deployment(name="Noop")(serve.ingress()(NoopReplica))
Echo = serve.deployment(name="Echo")(EchoReplica)


def build_one(_: dict[str, Any]) -> Application:
    return Noop.bind()


def build_two(_: dict[str, Any]) -> Application:
    return Noop.bind(Echo.bind())
