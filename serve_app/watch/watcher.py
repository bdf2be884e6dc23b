"""Repeats cycles until it is stopped: on the grid of the series, each within a limit of time."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter

from serve_app.watch.board import board_of
from serve_app.watch.cycle import Outcome, Plan, run_cycle
from serve_app.watch.delivery import Webhook
from serve_app.watch.journal import Journal
from serve_app.watch.metrics import WatchMetrics
from serve_app.watch.quotes import Source, SourceError
from tsfm_client import AsyncClient, ClientError

_LOG = logging.getLogger(__name__)
CYCLE_S = 60.0  # the service level of a cycle: `slo.cycle_s`
BOARD_S = 5.0  # for showing the markets on the board
AFTER_STEP_S = 5.0  # exchanges publish the last price of a step a little later


@dataclass(frozen=True, slots=True)
class Report:
    """How a cycle ended: with an outcome, or with the reason why there is none."""

    began: float  # POSIX seconds
    took_s: float
    outcome: Outcome | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Watcher:
    """What a watch works with; ``clock`` gives POSIX seconds."""

    source: Source
    client: AsyncClient
    journal: Journal
    plan: Plan
    receivers: Sequence[str]
    metrics: WatchMetrics
    clock: Callable[[], float]
    webhook: Webhook | None = None
    board: str | None = None  # the name of the board that shows the markets; None: none
    cycle_s: float = CYCLE_S

    async def cycle(self) -> Report:
        """Runs one cycle; a failure is a part of the report."""
        began, timer, outcome, failure = self.clock(), perf_counter(), None, None
        try:
            async with asyncio.timeout(self.cycle_s):
                outcome = await run_cycle(
                    self.source, self.client, self.journal, self.receivers, self.plan, began
                )
        except TimeoutError:
            failure = f"the cycle did not end within {self.cycle_s:g} s; nothing of it is used"
        except (SourceError, ClientError) as exc:
            failure = str(exc)
        except sqlite3.Error as exc:
            failure = f"the state file cannot be written ({exc})"
        except Exception as exc:  # noqa: BLE001 - a watch of days must not end by one cycle
            _LOG.exception("A cycle failed.")
            failure = f"an error of the watch itself ({type(exc).__name__}), which its log shows"
        report = Report(began, perf_counter() - timer, outcome, failure)
        self.metrics.count(report.took_s, outcome)
        return report

    async def show_on_board(self, report: Report) -> None:
        """Sends the markets of a cycle to the service's board; a failure is logged."""
        if self.board is None or report.outcome is None or not report.outcome.checks:
            return
        began = datetime.fromtimestamp(report.began, UTC).isoformat()
        try:
            async with asyncio.timeout(BOARD_S):
                await self.client.show_board(self.board, board_of(report.outcome, began))
        except (TimeoutError, ClientError) as exc:
            _LOG.warning(
                "The board does not show this cycle (%s).", str(exc) or "no answer in time"
            )
        except Exception:  # noqa: BLE001 - as above: the next cycle shows its markets again
            _LOG.exception("The board does not show this cycle.")

    async def run(self, show: Callable[[Report], None]) -> None:
        """Repeats cycles until it is cancelled."""
        delivering = asyncio.create_task(self.webhook.run()) if self.webhook else None
        try:
            while True:
                report = await self.cycle()
                show(report)
                await self.show_on_board(report)
                await asyncio.sleep(self.pause_s())
        finally:
            if delivering is not None:
                delivering.cancel()

    def pause_s(self) -> float:
        """Seconds until a little after the next step."""
        step_s = self.plan.step_s
        return step_s - (self.clock() - AFTER_STEP_S) % step_s
