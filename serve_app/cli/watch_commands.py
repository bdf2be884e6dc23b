"""``tsfm watch``: follows markets and tells when a price leaves its normal range."""

import asyncio
import re
import sqlite3
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from serve_app.cli.terminal import HERE, SERVICE_FAILED, AsJson, InputError, Token, Url, note

if TYPE_CHECKING:
    from serve_app.watch.alerts import Rule
    from serve_app.watch.cycle import Outcome, Plan
    from serve_app.watch.journal import Journal
    from serve_app.watch.quotes import Window
    from serve_app.watch.watcher import Report
    from tsfm_client import Forecast

STATE = Path("tsfm-watch.db")
MOST_ROWS = 20
MOST_READ = 500  # markets of an exchange, by volume: at 10 requests a second most of a minute
MOST_REASONS = 5


def watch(
    source: Annotated[
        str,
        typer.Option(help="replay, polymarket, kalshi, manifold, a URL of JSON, a file or folder."),
    ] = "replay",
    once: Annotated[bool, typer.Option("--once", help="One cycle, for cron.")] = False,
    top: Annotated[int, typer.Option(help="So many markets.", min=1, max=500)] = 200,
    rank: Annotated[
        Literal["volume", "activity", "skill"],
        typer.Option(help="Which come first: docs/watch.md."),
    ] = "volume",
    market: Annotated[list[str] | None, typer.Option(help="Only this; repeatable.")] = None,
    markets_file: Annotated[
        Path | None, typer.Option("--list", help="Watch list in YAML: docs/watch.md.")
    ] = None,
    freq: Annotated[str, typer.Option(help="Step of the series.")] = "5m",
    points: Annotated[int, typer.Option(help="Steps to send per market.", min=3)] = 289,
    model: Annotated[
        str | None, typer.Option(help="Name or alias, as `tsfm models` shows them.")
    ] = None,
    p_value: Annotated[
        float | None, typer.Option(help="Alert at this p-value or less.", min=0, max=1)
    ] = None,
    severity: Annotated[
        Literal["breach", "run", "holds"], typer.Option(help="Least severity to tell.")
    ] = "breach",
    webhook: Annotated[
        str | None, typer.Option(envvar="TSFM_WEBHOOK", help="Post alerts to this URL.")
    ] = None,
    slack: Annotated[bool, typer.Option("--slack", help="The webhook is Slack's.")] = False,
    state: Annotated[Path, typer.Option(help="File of the state.")] = STATE,
    metrics_port: Annotated[
        int | None, typer.Option(help="Answer Prometheus on this port of this machine.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="Field of a URL's JSON, as price=lastPrice; repeatable."),
    ] = None,
    source_url: Annotated[
        str | None, typer.Option(help="Address of the exchange, or of a proxy of it.")
    ] = None,
    url: Url = HERE,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Follow markets and tell when a price leaves its normal range.

    \b
    Each cycle reads the newest prices, has the service check them in one batch, and writes a line
    for each alert. An alert begins when a price is outside its band and unusual, and rises from
    breach (1 step) to run (2) and holds (12). The state file lets a restart go on. The markets are
    on the first page of the service's console, under the name of the source or the state file.
    Exit code of --once: 1 if the source or the service failed, else 0.

    \b
    Examples:
      tsfm watch --source replay --once
      tsfm watch --source polymarket --top 100 --webhook https://example.com/hook
      tsfm watch --source prices/ --freq 15m --json >> alerts.jsonl
    """
    from serve_app.watch.alerts import P_VALUE, Rule, Severity
    from serve_app.watch.board import board_name
    from serve_app.watch.cycle import Rank
    from serve_app.watch.delivery import LINES, WEBHOOK
    from serve_app.watch.sources import named

    rule = Rule(P_VALUE if p_value is None else p_value, severity=Severity[severity.upper()])
    options: dict[str, Any] = {"model": {"model_name": model}} if model else {}
    if source == "replay":
        options["observe"] = False  # made-up prices must teach the service nothing
    names, plan = _plan(markets_file, market or [], rule, (freq, points, top), options)
    plan = replace(plan, rank=Rank(rank))
    read = top if plan.rank is Rank.VOLUME else min(2 * top, MOST_READ)
    try:
        found = named(source, names, read, points * plan.step_s, source_url, _columns(columns))
    except ValueError as exc:
        raise InputError(f"--source: {exc}") from exc
    receivers = (LINES, WEBHOOK) if webhook else (LINES,)
    board = board_name(source if state == STATE else state.stem)
    settings = {"source": found, "plan": plan, "receivers": receivers, "board": board}
    code = asyncio.run(
        _run(settings, state, webhook, slack, metrics_port, (url, token), once, as_json)
    )
    raise typer.Exit(code)


def _columns(columns: list[str] | None) -> dict[str, str]:
    pairs = [column.partition("=") for column in columns or ()]
    if not all(ours and theirs for ours, _, theirs in pairs):
        raise InputError("--map: write the names like price=lastPrice")
    return {ours: theirs for ours, _, theirs in pairs}


def _plan(
    markets_file: Path | None,
    names: list[str],
    rule: "Rule",
    series: tuple[str, int, int],
    options: dict[str, Any],
) -> "tuple[list[str], Plan]":
    """The ids of the wanted markets, and what a cycle does."""
    from serve_app.http.requests import FREQ, parse_freq
    from serve_app.watch.cycle import Plan
    from serve_app.watch.watch_list import read_watch_list

    freq, points, top = series
    if not re.fullmatch(FREQ, freq):
        raise InputError(f"--freq {freq}: write it like 5m, 1h or 1d")
    try:
        listed = read_watch_list(markets_file).markets if markets_file else []
    except ValueError as exc:
        raise InputError(str(exc)) from exc
    plan = Plan(
        freq,
        parse_freq(freq),
        points,
        rule,
        rules={one.id: one.rule(rule) for one in listed},
        options=options,
        market_options={one.id: {"quantiles": one.levels} for one in listed if one.levels},
        markets=frozenset((*names, *(one.id for one in listed))),
        top=top,
    )
    return [*names, *(one.id for one in listed)], plan


async def _run(
    settings: dict[str, Any],
    state: Path,
    webhook: str | None,
    slack: bool,
    metrics_port: int | None,
    service: tuple[str, str | None],
    once: bool,
    as_json: bool,
) -> int:
    """Watches until a signal, or once; returns the exit code."""
    from serve_app.watch.delivery import Webhook, plain_payload, slack_payload
    from serve_app.watch.journal import Journal
    from serve_app.watch.metrics import WatchMetrics
    from serve_app.watch.watcher import Watcher
    from tsfm_client import AsyncClient

    metrics = WatchMetrics()
    try:
        if metrics_port is not None:
            metrics.serve(metrics_port)
    except OSError as exc:
        raise InputError(f"--metrics-port {metrics_port}: {exc.strerror}") from exc
    try:
        journal = Journal(state)
    except sqlite3.Error as exc:
        raise InputError(f"--state {state}: cannot be used ({exc})") from exc
    try:
        client = AsyncClient(*service)
    except ValueError as exc:
        raise InputError(f"--url: {exc}") from exc
    payload = slack_payload if slack else plain_payload
    dead_letters = state.with_suffix(".dead.jsonl")
    try:
        hook = Webhook(webhook, journal, dead_letters, payload) if webhook else None
    except ValueError as exc:
        raise InputError(f"--webhook: {exc}") from exc
    with journal:
        async with client:
            watcher = Watcher(
                client=client,
                journal=journal,
                metrics=metrics,
                clock=time.time,  # noqa: TID251 - prices have real times
                webhook=hook,
                **settings,
            )
            show = partial(_show, journal, as_json=as_json)
            if not once:
                await watcher.run(show)
            report = await watcher.cycle()
            show(report)
            await watcher.show_on_board(report)
            if hook is not None:
                await hook.deliver()
                await hook.close()
    return SERVICE_FAILED if report.outcome is None else 0


def _show(journal: "Journal", report: "Report", *, as_json: bool) -> None:
    """Alerts to stdout, everything else to stderr."""
    from serve_app.watch.delivery import write_lines

    write_lines(journal, sys.stdout, as_json)
    at = f"{datetime.fromtimestamp(report.began, UTC):%H:%M:%S}"
    if report.outcome is None:
        note(f"{at}  failed: {report.failure}")
        return
    outcome = report.outcome
    if not as_json and sys.stderr.isatty():
        _table(outcome)
    checked, skipped = len(outcome.checks), len(outcome.skipped)
    note(
        f"{at}  {checked} markets checked, {skipped} skipped, alerts: {len(outcome.alerts)}, "
        f"{report.took_s:.1f} s"
    )
    if fallbacks := outcome.fallbacks():
        words = ", ".join(f"{reason} {count}" for reason, count in fallbacks.most_common())
        note(f"  {fallbacks.total()} of {checked} not by the model: {words}")
    reasons = Counter(outcome.skipped.values())
    for reason, count in reasons.most_common(MOST_REASONS):
        example = next(name for name, why in outcome.skipped.items() if why == reason)
        note(f"  skipped: {count} of {skipped}, such as {example}: {reason}")


def _table(outcome: "Outcome") -> None:
    """The markets that are most unusual now."""
    from rich.console import Console
    from rich.table import Table

    table = Table("market", "price", "band", "p-value", "breach", "source", box=None)
    for window, answer in sorted(outcome.checks.values(), key=_surprise)[:MOST_ROWS]:
        check, step = answer.check, answer.paths[0]
        if check is None or check.price is None:
            continue
        table.add_row(
            window.title or window.market_id,
            f"{100 * check.price:.1f} %",
            f"{100 * step[0]:.1f} - {100 * step[-1]:.1f}",
            "not known" if check.p_value is None else f"{check.p_value.value:.3f}",
            check.severity if check.breach == "none" else f"{check.severity}, {check.breach}",
            answer.meta.fallback_reason or answer.meta.model_name,
        )
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(table)


def _surprise(checked: "tuple[Window, Forecast]") -> tuple[float, float]:
    """Sorts the most unusual first."""
    check = checked[1].check
    assert check is not None
    rough = 1.0 if check.breach == "none" else 0.2 / 5**check.beyond_widths  # as the board has it
    return (rough if check.p_value is None else check.p_value.value), -check.beyond_widths
