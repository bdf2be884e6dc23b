"""The ingress app with fakes behind it, driven over ASGI."""

from typing import Any

import httpx
import orjson
from httpx import ASGITransport
from opentelemetry.trace import Tracer

from runner.calibration.state import ConformalState
from runner.config.loading import Config
from runner.forecast.answers import AnswerStore
from runner.forecast.forecaster import Forecaster
from runner.pacer import Pacer
from serve_app.http.routes import build_app
from serve_app.http.service import Dependencies, LearningPort, UnderWay
from serve_app.telemetry.recorder import Recorder
from tests.support.builders import (
    make_answer,
    make_bands,
    make_config,
    make_registry,
    make_request_metrics,
)
from tests.support.fakes import (
    FakeBaselinePort,
    FakeBoards,
    FakeClock,
    FakeFleet,
    FakeLearning,
    FakeModelPort,
    FakeOperatorPort,
)
from tests.support.openapi import assert_documented

REGISTRY = make_registry()
TAKES_OUTCOMES = FakeLearning()
# The customer document's own example, verbatim.
EXAMPLE = (
    b'{"market_id":"m-1","as_of_ts":"2026-02-20T12:00:00Z","freq":"5m","horizon_steps":12,'
    b'"quantiles":[0.1,0.5,0.9],"y":[0.41,0.42,0.40,0.43,0.44,0.45,0.46,0.45,0.44,0.43,0.42,0.41,'
    b"0.40,0.41,0.42,0.43,0.44,0.45,0.46,0.47,0.48,0.47,0.46,0.45,0.44,0.43,0.42,0.41,0.40,0.41,"
    b'0.42,0.43],"transform":{"space":"logit","eps":1e-6},"model":{"provider":"tollama",'
    b'"model_name":"chronos","params":{"temperature":0.0}}}'
)


class Bench:
    """The ingress app with fakes behind it, driven over ASGI."""

    def __init__(
        self,
        config: Config | None = None,
        conformal: ConformalState | None = None,
        tracer: Tracer | None = None,
        learning: LearningPort | None = TAKES_OUTCOMES,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.model = FakeModelPort(make_answer(bands=make_bands(horizon=12)))
        self.baseline = FakeBaselinePort()
        config = config or make_config()
        answers = AnswerStore(config, self.clock, lambda: 0.0, conformal)
        shared = (config, REGISTRY, answers)
        self.under_way = under_way = UnderWay()
        pacer = Pacer(self.clock, lambda: under_way.single > 0)
        forecaster = Forecaster(*shared, self.model, self.baseline, self.clock, pacer)
        self.recorder = Recorder()
        self.request_metrics = make_request_metrics(self.clock, self.recorder)
        self.fleet = FakeFleet()
        self.operator = FakeOperatorPort()
        self.boards = FakeBoards()
        shared_by_all = (*shared, forecaster, self.clock, self.request_metrics, self.operator)
        beside = (under_way, pacer, self.boards, tracer, learning)
        self.service = service = Dependencies(*shared_by_all, *beside)
        self.app = build_app(service, self.fleet)
        transport = ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(
            transport=transport,
            base_url="http://test",
            event_hooks={"response": [assert_documented]},
        )

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.http.post("/tsfm/forecast", content=content, headers=headers)


def example(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(EXAMPLE) | changes
    return {k: v for k, v in body.items() if v is not ...}
