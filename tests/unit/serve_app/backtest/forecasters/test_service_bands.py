from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from runner.errors import ConfigError
from serve_app.backtest.forecasters.service import BATCH, ask_all, requests
from serve_app.backtest.report.report import Served
from serve_app.backtest.run import CHUNK
from serve_app.backtest.scoring.scores import LEVELS
from serve_app.backtest.store import Store
from serve_app.http.requests import BatchBody, to_request
from tests.support.builders import make_config
from tests.support.markets import made_windows, rough_prices

PRICES = rough_prices(BATCH + 3, 16)
WINDOWS = made_windows(PRICES[:, :13], PRICES[:, 13:])


def answer(item: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the service says: the last price and a bit; calibrated ones twice as wide."""
    paths = {
        repr(float(level)): [item["y"][-1] + (level - 0.5) / 10] * item["horizon_steps"]
        for level in LEVELS
    }
    meta: dict[str, Any] = {"model_name": "fracast-0", "fallback_reason": None, "warnings": []}
    return {"yhat_q": paths, "yhat_q_conformal": paths, "meta": meta | changes}


class FakeService:
    """Answers batches; the first ``refusals`` responses are these instead."""

    def __init__(self, *refusals: httpx.Response) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._refusals = list(refusals)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self._refusals:
            return self._refusals.pop(0)
        self.bodies.append(orjson.loads(request.content))
        items = self.bodies[-1]["requests"]
        return httpx.Response(200, json={"results": [{"ok": answer(item)} for item in items]})


def client(service: Any) -> httpx.Client:
    return httpx.Client(base_url="http://service", transport=httpx.MockTransport(service))


def test_requests_are_ones_that_the_service_takes() -> None:
    body = orjson.dumps({"requests": requests(WINDOWS, "chronos")})
    batch, config = BatchBody.model_validate_json(body), make_config()
    first = to_request(batch.requests[0], config.request, config.transform)

    assert first.y_prob.tolist() == WINDOWS.past[0].tolist()
    assert (first.freq, first.horizon_steps, first.conformal) == ("5m", 3, True)
    assert first.levels == tuple(LEVELS)
    assert first.as_of.timestamp() == WINDOWS.origin_ts[0]


def test_the_liquidity_of_the_file_is_the_caller_s_bucket() -> None:
    told = made_windows(PRICES[:2, :13], PRICES[:2, 13:], liquidity=["high", ""])
    first, second = requests(told, "chronos")

    assert first["liquidity_bucket"] == "high"
    assert "liquidity_bucket" not in second


def test_a_step_that_is_no_whole_minute_cannot_be_asked() -> None:
    with pytest.raises(ConfigError, match="whole minutes; these are 90 s"):
        requests(made_windows(PRICES[:1], PRICES[:1], step_s=90.0), "chronos")


def test_answers_are_kept_in_the_order_of_the_windows(tmp_path: Path) -> None:
    service, store = FakeService(), Store(tmp_path)
    ask_all(client(service), "chronos", WINDOWS, store, lambda *_: None)
    found = store.load("chronos", 0)

    assert found is not None
    assert [len(body["requests"]) for body in service.bodies] == [BATCH, 3]
    np.testing.assert_allclose(found["bands"][:, 0, 2], WINDOWS.past[:, -1])
    assert found["bands"].shape == (BATCH + 3, 3, 5)


def test_what_was_answered_before_is_not_asked_again(tmp_path: Path) -> None:
    store, again = Store(tmp_path), FakeService()
    ask_all(client(FakeService()), "chronos", WINDOWS, store, lambda *_: None)
    told: list[int] = []
    ask_all(client(again), "chronos", WINDOWS, store, lambda _, count: told.append(count))

    assert (again.bodies, told) == ([], [len(WINDOWS)])
    assert len(WINDOWS) < CHUNK


def test_a_busy_service_is_asked_again_when_it_said(tmp_path: Path) -> None:
    waited: list[float] = []
    busy = httpx.Response(429, headers={"retry-after": "7"}, json={})
    service, few = FakeService(busy, httpx.Response(503)), WINDOWS.take(slice(0, 2))
    ask_all(client(service), "m", few, Store(tmp_path), lambda *_: None, waited.append)

    assert len(service.bodies) == 1
    assert waited == [7, 2]


def test_a_service_that_stays_busy_is_given_up(tmp_path: Path) -> None:
    waited: list[float] = []
    service = FakeService(*[httpx.Response(503) for _ in range(20)])

    with pytest.raises(ConfigError, match="too busy; try again later"):
        ask_all(client(service), "m", WINDOWS, Store(tmp_path), lambda *_: None, waited.append)
    assert 3 <= len(waited) < 10


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(401, json={"error": {"message": "A token is needed."}}), "A token is"),
        (httpx.Response(500, text="<html>"), "status 500"),
        (
            httpx.Response(200, json={"results": [{"error": {"message": "No such model."}}]}),
            "No such model",
        ),
    ],
)
def test_a_refusal_is_passed_on_in_one_sentence(
    tmp_path: Path, response: httpx.Response, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"The service refused a request: {said}"):
        ask_all(
            client(FakeService(response)), "m", WINDOWS.take(slice(0, 1)), Store(tmp_path), print
        )


def test_no_service_is_one_sentence(tmp_path: Path) -> None:
    def gone(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ConfigError, match="No answer from http://service"):
        ask_all(client(gone), "m", WINDOWS, Store(tmp_path), lambda *_: None)


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
