import asyncio
import sys
from contextlib import aclosing
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from runner.errors import ConfigError, RuntimeRejectedError
from runner.tollama.client import TollamaRuntime
from runner.tollama.http import RuntimeHttp
from runner.tollama.wire import encode_series
from runner.types import BatchKey, ModelSeries
from serve_app.embedded_runtime import RuntimeArgs, RuntimeReplica, build
from tests.support.builders import make_config
from tests.support.fakes import FakeClock

KEY = BatchKey("fracast-0", 12, (0.05, 0.1, 0.5, 0.9, 0.95))


def make_series(seed, points=64):
    y = np.cumsum(np.random.default_rng(seed).normal(0, 0.1, points))
    return encode_series(ModelSeries(y=y, end_ts=1_771_588_800.0, step_s=300))


async def test_series_too_short_for_the_model_does_not_hurt_its_batchmates():
    settings, app = make_config().tollama, RuntimeReplica().__serve_build_asgi_app__()
    batch = [make_series(1), make_series(2, points=7), make_series(3)]

    async with aclosing(RuntimeHttp(settings, "http://runtime", httpx.ASGITransport(app))) as http:
        runtime = TollamaRuntime(http, settings, sleep=asyncio.sleep, clock=FakeClock())
        results: Any = await runtime.forecast(KEY, batch, budget_s=60)

    first, short, last = results
    assert isinstance(short, RuntimeRejectedError)
    assert first.paths.shape == last.paths.shape == (12, 5)


@pytest.mark.parametrize("package", ["torch", "fracast"])
def test_builder_names_a_missing_package_and_how_to_install_it(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ConfigError, match=rf"{package}: pip install '\.\[embedded\]'"):
        build(RuntimeArgs())


def test_unknown_argument_is_refused():
    with pytest.raises(ValidationError, match="model"):
        RuntimeArgs.model_validate({"model": "x"})
