"""Requests bands of a running service in batches: raw and calibrated paths.

Requests name five levels, so that the service's width limits change 0.05 and 0.95 only, and not
the calibrated levels 0.1 and 0.9. Only a band wider than ``bands.max_interval_width`` is narrowed
as a whole; such answers are marked ``narrowed``.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from tenacity import (
    RetryCallState,
    RetryError,
    Retrying,
    nap,
    retry_if_exception_type,
    stop_after_attempt,
)

from runner.bands import Correction
from runner.errors import ConfigError
from serve_app.backtest.run import Finished, chunks
from serve_app.backtest.scoring.scores import LEVELS
from serve_app.backtest.store import Store
from serve_app.backtest.windows import Windows, freq

BATCH = 64  # requests in one body: slow models meet the batch deadline with as many
_ATTEMPTS = 6
_PAUSE_S = 2.0
_KEYS = [repr(float(level)) for level in LEVELS]  # as the service writes its levels


class _BusyError(Exception):
    """The service is overloaded; try again after ``pause_s``."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(pause_s)
        self.pause_s = pause_s


def ask_all(
    client: httpx.Client,
    model: str,
    windows: Windows,
    store: Store,
    finished: Finished,
    pause: Callable[[float], None] = nap.sleep,
) -> None:
    """Stores the answers for all windows in chunks; stored chunks are not requested again.

    A chunk holds ``bands`` and ``conformal`` ``(B, H, Q)`` at ``LEVELS`` (NaN: not calibrated),
    ``source`` (the answering model), ``reason`` ("" or the fallback reason) and ``narrowed``.

    Raises:
        ConfigError: the service cannot be reached, or it refuses a request.
    """
    for chunk in chunks(model, len(windows)):
        part = windows.take(chunk.rows)
        if store.load(model, chunk.index) is None:
            asked = requests(part, model)
            parts = (asked[i : i + BATCH] for i in range(0, len(asked), BATCH))
            answers = [answer for some in parts for answer in _post(client, some, pause)]
            store.save(model, chunk.index, read_answers(answers))
        finished(model, len(part))


def requests(windows: Windows, model: str) -> list[dict[str, Any]]:
    """The body of one request for each window.

    Raises:
        ConfigError: a step is not a whole number of minutes.
    """
    for step_s in windows.step_s[windows.step_s % 60 != 0][:1]:
        raise ConfigError(f"The service takes steps of whole minutes; these are {step_s:g} s.")
    return [
        {
            "market_id": str(windows.labels["market_id"][b])[:128],
            "as_of_ts": datetime.fromtimestamp(windows.origin_ts[b], UTC).isoformat(),
            "freq": freq(windows.step_s[b]),
            "horizon_steps": windows.future.shape[1],
            "quantiles": LEVELS.tolist(),
            "y": windows.past[b].tolist(),
            "model": {"model_name": model},
            "conformal": True,
            **_bucket(str(windows.labels["liquidity"][b])),
        }
        for b in range(len(windows))
    ]


def read_answers(answers: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of a chunk, from the service's answers for its windows."""
    metas = [answer["meta"] for answer in answers]
    nothing = np.full_like(_paths(answers[0]["yhat_q"]), np.nan)
    calibrated = [answer.get("yhat_q_conformal") for answer in answers]
    return {
        "bands": np.array([_paths(answer["yhat_q"]) for answer in answers]),
        "conformal": np.array([nothing if c is None else _paths(c) for c in calibrated]),
        "source": np.array([meta["model_name"] for meta in metas]),
        "reason": np.array([meta["fallback_reason"] or "" for meta in metas]),
        "narrowed": np.array([Correction.NARROWED in meta["warnings"] for meta in metas]),
    }


def _paths(by_level: Mapping[str, Sequence[float]]) -> NDArray[np.float64]:
    return np.array([by_level[key] for key in _KEYS], dtype=np.float64).T  # (H, Q)


def _bucket(liquidity: str) -> dict[str, str]:
    return {"liquidity_bucket": liquidity} if liquidity else {}


def _post(
    client: httpx.Client, items: Sequence[Mapping[str, Any]], pause: Callable[[float], None]
) -> list[Mapping[str, Any]]:
    """The service's answer to each item; retries while the service is overloaded."""
    tries = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=_pause_s,
        sleep=pause,
        retry=retry_if_exception_type(_BusyError),
    )
    try:
        answers = tries(_post_once, client, orjson.dumps({"requests": items}))
    except httpx.HTTPError as exc:
        raise ConfigError(f"No answer from {client.base_url}; is the service running?") from exc
    except RetryError as exc:
        raise ConfigError(f"{client.base_url} is too busy; try again later.") from exc
    for answer in answers:
        if "error" in answer:
            raise ConfigError(f"The service refused a request: {answer['error']['message']}")
    return [answer["ok"] for answer in answers]


def _post_once(client: httpx.Client, body: bytes) -> list[dict[str, Any]]:
    response = client.post(
        "/tsfm/forecast/batch", content=body, headers={"content-type": "application/json"}
    )
    if response.status_code in (429, 503):
        raise _BusyError(float(response.headers.get("retry-after", _PAUSE_S)))
    if response.is_error:
        return [{"error": {"message": _message(response)}}]
    results: list[dict[str, Any]] = orjson.loads(response.content)["results"]
    return results


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def _pause_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.pause_s if isinstance(error, _BusyError) else _PAUSE_S
