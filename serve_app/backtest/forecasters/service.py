"""Requests bands of a running service in batches: raw and calibrated paths.

Requests name five levels, so that the service's width limits change 0.05 and 0.95 only, and not
the calibrated levels 0.1 and 0.9. Only a band wider than ``bands.max_interval_width`` is narrowed
as a whole; such answers are marked ``narrowed``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.bands import Correction
from runner.errors import ConfigError
from serve_app.backtest.run import Finished, chunks
from serve_app.backtest.scoring.scores import LEVELS
from serve_app.backtest.store import Store
from serve_app.backtest.windows import Windows, freq
from serve_app.client import Client, Forecast, Retries, ServiceError, request_body

BATCH = 64  # requests in one body: slow models meet the batch deadline with as many
TIMEOUT_S = 120.0
RETRIES = Retries(attempts=5, first_wait_s=0.5, longest_wait_s=30.0)


def ask_all(client: Client, model: str, windows: Windows, store: Store, finished: Finished) -> None:
    """Stores the answers for all windows in chunks; stored chunks are not requested again.

    A chunk holds ``bands`` and ``conformal`` ``(B, H, Q)`` at ``LEVELS`` (NaN: not calibrated),
    ``source`` (the answering model), ``reason`` ("" or the fallback reason) and ``narrowed``.

    Raises:
        ConfigError: a step is not a whole number of minutes.
        ClientError: the service cannot be reached, or it refuses a request.
    """
    for chunk in chunks(model, len(windows)):
        part = windows.take(chunk.rows)
        if store.load(model, chunk.index) is None:
            bodies = requests(part, model)
            parts = (bodies[i : i + BATCH] for i in range(0, len(bodies), BATCH))
            answers = [answer for some in parts for answer in _answers(client, some)]
            store.save(model, chunk.index, _arrays(answers))
        finished(model, len(part))


def requests(windows: Windows, model: str) -> list[dict[str, Any]]:
    """The body of one request for each window.

    Raises:
        ConfigError: a step is not a whole number of minutes.
    """
    for step_s in windows.step_s[windows.step_s % 60 != 0][:1]:
        raise ConfigError(f"The service takes steps of whole minutes; these are {step_s:g} s.")
    return [_request(windows, b, model) for b in range(len(windows))]


def _request(windows: Windows, b: int, model: str) -> dict[str, Any]:
    liquidity = str(windows.labels["liquidity"][b])
    return request_body(
        str(windows.labels["market_id"][b])[:128],
        windows.past[b],
        as_of=float(windows.origin_ts[b]),
        freq=freq(windows.step_s[b]),
        horizon_steps=windows.future.shape[1],
        levels=LEVELS,
        model=model,
        conformal=True,
        **({"liquidity_bucket": liquidity} if liquidity else {}),
    )


def _answers(client: Client, bodies: Sequence[Mapping[str, Any]]) -> list[Forecast]:
    found: dict[int, Forecast] = {}
    for number, result in client.forecast_many(bodies):
        if isinstance(result, ServiceError):
            raise result
        found[number] = result
    return [found[number] for number in range(len(bodies))]


def _arrays(answers: Sequence[Forecast]) -> dict[str, NDArray[Any]]:
    nothing = np.full_like(answers[0].paths, np.nan)
    return {
        "bands": np.array([a.paths for a in answers]),
        "conformal": np.array([nothing if a.conformal is None else a.conformal for a in answers]),
        "source": np.array([a.meta.model_name for a in answers]),
        "reason": np.array([a.meta.fallback_reason or "" for a in answers]),
        "narrowed": np.array([Correction.NARROWED in a.meta.warnings for a in answers]),
    }
