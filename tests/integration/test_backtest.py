"""A backtest that asks the running service, as ``tsfm backtest --model`` does."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from serve_app.backtest.calibration import Calibrator
from serve_app.backtest.windows import Shape
from serve_app.cli import app
from serve_app.cli.backtest_run import Job, ask_service, read_windows, store_of
from tests.integration.conftest import FITTED, Stack
from tests.support.builders import ROOT, make_config
from tests.support.markets import write_markets

pytestmark = pytest.mark.integration
INNER = slice(1, 4)  # 0.1, 0.5, 0.9: width limits act on the outer two


async def backtested(job: Job) -> dict[str, Any]:
    """The result of the command; its finished parts are used again for an equal job."""
    shape = [f"--points={job.shape.points}", f"--horizon={job.shape.horizon_steps}"]
    where = [f"--url={job.url}", f"--work={job.work}", f"--config={ROOT / 'configs/local.yaml'}"]
    words = ["backtest", str(job.data), "--model=chronos", "--origins=4", *shape, *where]
    ran = await asyncio.to_thread(CliRunner().invoke, app, [*words, "--processes=1", "--json"])
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


async def test_service_calibrates_as_the_backtest_does(stack: Stack, tmp_path: Path) -> None:
    data = write_markets(tmp_path / "prices.csv", count=5, steps=100)
    shape = Shape(points=64, horizon_steps=4, max_origins=4)
    job = Job(data, shape, model="chronos", url=stack.service.url, work=tmp_path)

    result = await backtested(job)
    calls = stack.stub.stats()["calls"]
    windows, config = read_windows(job), make_config()
    served = ask_service(job, windows, store_of(job, config), lambda *_: None)
    assert served is not None
    calibrator = Calibrator(windows, config.conformal)
    here = calibrator.adjusted(served.answers, FITTED, np.ones(len(windows), dtype=bool))

    assert result["service"]["answered_by"] == {"fracast-0": 20}
    assert result["service"]["calibrated_windows"] == 20
    there = served.arrays["conformal"]
    np.testing.assert_allclose(there[..., INNER], here[..., INNER], atol=1e-6)  # as its file rounds
    assert np.abs(there - served.arrays["bands"])[..., INNER].max() > 0.001
    assert stack.stub.stats()["calls"] == calls, "finished parts are not requested again"
