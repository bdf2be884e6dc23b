"""Requests bands of a running service in batches: raw and calibrated paths.

Requests name five levels, so that the service's width limits change 0.05 and 0.95 only, and not
the calibrated levels 0.1 and 0.9. Only a band wider than ``bands.max_interval_width`` is narrowed
as a whole; such answers are marked ``narrowed``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.bands import Correction
from runner.errors import ConfigError
from runner.types import FloatArray
from serve_app.backtest.band_store import Finished, Store, chunks
from serve_app.backtest.calibration import Answers
from serve_app.backtest.scores import LEVELS, Summary
from serve_app.backtest.windows import Windows, freq
from tsfm_client import Client, Forecast, Options, Retries, ServiceError, request_body

BATCH = 64  # requests in one body: slow models meet the batch deadline with as many
TIMEOUT_S = 120.0
RETRIES = Retries(attempts=5, first_wait_s=0.5, longest_wait_s=30.0)


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """The answers of a running service for all windows; see `ask_all`."""

    model: str  # as requested
    arrays: Mapping[str, NDArray[Any]]

    @property
    def answers(self) -> Answers:
        """The bands of the model that answered most windows; without narrowed ones."""
        own = self.arrays["source"][self.arrays["reason"] == ""].tolist()
        name = Counter(own).most_common(1)[0][0] if own else self.model
        usable = (self.arrays["source"] == name) & ~self.arrays["narrowed"]
        return Answers(name, self.arrays["bands"], usable)

    @property
    def calibrated(self) -> NDArray[np.bool_]:
        """``(B,)``: answers with calibrated paths."""
        there: NDArray[np.bool_] = np.isfinite(self.arrays["conformal"]).all(axis=(1, 2))
        return there

    def kinds(self) -> dict[str, FloatArray]:
        """Bands by the name in the report; with calibrated ones if the service sent any."""
        bands, there = self.arrays["bands"], self.calibrated
        found = {f"{self.model} (service)": bands}
        if there.any():
            mixed = np.where(there[:, None, None], self.arrays["conformal"], bands)
            found[f"{self.model} (service, conformal)"] = mixed
        return found

    def counts(self) -> Summary:
        """Number of windows by answering model and by fallback reason."""
        return {
            "asked_for": self.model,
            "answered_by": dict(Counter(self.arrays["source"].tolist())),
            "fallback_reasons": dict(Counter(filter(None, self.arrays["reason"].tolist()))),
            "calibrated_windows": int(self.calibrated.sum()),
        }


def ask_all(client: Client, model: str, windows: Windows, store: Store, finished: Finished) -> None:
    """Stores the answers for all windows in chunks; stored chunks are not requested again.

    A chunk holds ``bands`` and ``conformal`` ``(B, H, Q)`` at ``LEVELS`` (NaN: not calibrated),
    ``source`` (the answering model), ``reason`` ("" or the fallback reason) and ``narrowed``.

    Raises:
        ConfigError: a step is not a whole number of minutes.
        ClientError: the service cannot be reached, or it refuses a request.
    """
    for index, part in chunks(windows):
        if store.load(model, index) is None:
            bodies = requests(part, model)
            parts = (bodies[i : i + BATCH] for i in range(0, len(bodies), BATCH))
            answers = [answer for some in parts for answer in _answers(client, some)]
            store.save(model, index, _arrays(answers))
        finished(model, len(part))


def requests(windows: Windows, model: str) -> list[dict[str, Any]]:
    """The body of one request for each window; ConfigError if a step is no whole minutes."""
    for step_s in windows.step_s[windows.step_s % 60 != 0][:1]:
        raise ConfigError(f"The service takes steps of whole minutes; these are {step_s:g} s.")
    return [_request(windows, b, model) for b in range(len(windows))]


def _request(windows: Windows, b: int, model: str) -> dict[str, Any]:
    options = Options(
        as_of=float(windows.origin_ts[b]),
        freq=freq(windows.step_s[b]),
        horizon_steps=windows.future.shape[1],
        levels=LEVELS.tolist(),
        model=model,
        conformal=True,
        observe=False,
    )
    if liquidity := str(windows.labels["liquidity"][b]):
        options["liquidity_bucket"] = liquidity
    return request_body(str(windows.labels["market_id"][b])[:128], windows.past[b], **options)


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
