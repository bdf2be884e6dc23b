from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from runner.errors import ConfigError
from serve_app.backtest.band_store import CHUNK, Store
from serve_app.backtest.scores import LEVELS
from serve_app.backtest.service_bands import BATCH, RETRIES, Served, ask_all, requests
from serve_app.http.requests import BatchBody, to_request
from tests.support.builders import make_config
from tests.support.client_service import answer_to
from tests.support.markets import made_windows, rough_prices
from tsfm_client import Client, RequestRefusedError

PRICES = rough_prices(BATCH + 3, 16)
WINDOWS = made_windows(PRICES[:, :13], PRICES[:, 13:])


class FakeService:
    """Answers batches; the first responses are ``refusals``."""

    def __init__(self, *refusals: httpx.Response) -> None:
        self.batch_sizes: list[int] = []
        self.pauses: list[float] = []
        self._refusals = list(refusals)

    def client(self) -> Client:
        transport = httpx.MockTransport(self._answer)
        return Client(
            "http://service", transport=transport, sleep=self.pauses.append, retries=RETRIES
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self._refusals:
            return self._refusals.pop(0)
        self.batch_sizes.append(len(orjson.loads(request.content)["requests"]))
        return answer_to(request)


def test_requests_are_accepted_by_the_service() -> None:
    windows = made_windows(PRICES[:2, :13], PRICES[:2, 13:], liquidity=["high", ""])
    body = orjson.dumps({"requests": requests(windows, "chronos")})
    batch, config = BatchBody.model_validate_json(body), make_config()
    first, second = (to_request(one, config) for one in batch.requests)

    assert first.y_prob.tolist() == WINDOWS.past[0].tolist()
    assert (first.freq, first.horizon_steps, first.conformal) == ("5m", 3, True)
    assert first.levels == tuple(LEVELS)
    assert first.as_of.timestamp() == WINDOWS.origin_ts[0]
    assert (first.liquidity_bucket, second.liquidity_bucket) == ("high", None)


def test_a_step_that_is_no_whole_minute_is_refused() -> None:
    with pytest.raises(ConfigError, match="whole minutes; these are 90 s"):
        requests(made_windows(PRICES[:1], PRICES[:1], step_s=90.0), "chronos")


def test_answers_are_stored_in_the_order_of_the_windows_and_not_requested_again(
    tmp_path: Path,
) -> None:
    service, again, store = FakeService(), FakeService(), Store(tmp_path)
    finished: list[tuple[str, int]] = []
    for one in (service, again):
        ask_all(one.client(), "chronos", WINDOWS, store, lambda *done: finished.append(done))
    found = store.load("chronos", 0)

    assert len(WINDOWS) < CHUNK
    assert (service.batch_sizes, again.batch_sizes) == ([BATCH, 3], [])
    assert finished == [("chronos", len(WINDOWS))] * 2
    assert found is not None
    np.testing.assert_allclose(found["bands"][:, 0, 2], WINDOWS.past[:, -1])
    assert found["bands"].shape == (BATCH + 3, 2, 5)
    assert np.isnan(found["conformal"]).all()
    assert set(found["reason"]) == {"too_few_points"}


def test_a_busy_service_is_called_again_after_retry_after(tmp_path: Path) -> None:
    busy = {"error": {"code": "overloaded", "message": "Busy."}}
    service = FakeService(httpx.Response(429, headers={"retry-after": "7"}, json=busy))
    ask_all(service.client(), "m", WINDOWS.take(slice(0, 2)), Store(tmp_path), lambda *_: None)

    assert (service.batch_sizes, service.pauses) == ([2], [7.0])


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_refusal_ends_the_backtest(tmp_path: Path, in_batch: bool) -> None:
    error = {"code": "unknown_model", "message": "No such model."}
    whole, line = httpx.Response(404, json={"error": error}), {"index": 0, "error": error}
    service = FakeService(httpx.Response(200, json=line) if in_batch else whole)

    with pytest.raises(RequestRefusedError, match="No such model"):
        ask_all(service.client(), "m", WINDOWS.take(slice(0, 1)), Store(tmp_path), print)


def served(**changes: Any) -> Served:
    bands = np.tile(np.linspace(0.1, 0.5, 5), (4, 3, 1))
    arrays: dict[str, Any] = {
        "bands": bands,
        "conformal": np.full_like(bands, np.nan),
        "source": np.array(["fracast-0", "fracast-0", "ewma", "fracast-0"]),
        "reason": np.array(["", "", "runtime_timeout", ""]),
        "narrowed": np.array([False, True, False, False]),
    }
    return Served("chronos", arrays | changes)


def test_only_bands_of_the_model_are_usable_for_its_calibration() -> None:
    answers = served().answers

    assert answers.source == "fracast-0"
    assert answers.usable.tolist() == [True, False, False, True]


def test_calibrated_bands_are_reported_where_the_service_had_some() -> None:
    wide = np.full((4, 3, 5), np.nan)
    wide[1] = 0.7
    raw, calibrated = served().kinds(), served(conformal=wide).kinds()

    assert list(raw) == ["chronos (service)"]
    mixed = calibrated["chronos (service, conformal)"]
    assert (mixed[1] == 0.7).all()
    np.testing.assert_array_equal(mixed[0], raw["chronos (service)"][0])


def test_answers_are_counted_by_model_and_fallback_reason() -> None:
    assert served().counts() == {
        "asked_for": "chronos",
        "answered_by": {"ewma": 1, "fracast-0": 3},
        "fallback_reasons": {"runtime_timeout": 1},
        "calibrated_windows": 0,
    }
