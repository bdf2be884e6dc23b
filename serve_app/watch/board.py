"""The markets of a cycle as the service's board shows them."""

import re
from typing import Any

import numpy as np

from serve_app.watch.cycle import Outcome
from serve_app.watch.quotes import Window
from tsfm_client import Forecast

SHOWN_STEPS = 288  # with them the console forecasts a market that is opened


def board_of(outcome: Outcome, began: str) -> dict[str, Any]:
    """The body of `PUT /tsfm/board/{watch}`; ``began`` is an ISO time."""
    checked = outcome.checks.values()
    return {"markets": [_market(*one) for one in checked], "checked_ts": began}


def _market(window: Window, answer: Forecast) -> dict[str, Any]:
    ahead_s = window.end_ts - answer.as_of.timestamp()
    step_s = (answer.times[0] - answer.as_of).total_seconds()
    prices = window.y_prob[-SHOWN_STEPS:]
    return {
        "title": window.title and window.title[:300],
        "y": [None if np.isnan(y) else round(y, 4) for y in prices.tolist()],
        "newest_steps": round(ahead_s / step_s),
        "answer": answer.wire,
    }


def board_name(source: str) -> str:
    """A name for the board of a source: the last part of a path or URL."""
    last = source.rstrip("/").rpartition("/")[2].partition("?")[0]
    return re.sub(r"[^\w.-]+", "-", last, flags=re.ASCII)[:64] or "watch"
