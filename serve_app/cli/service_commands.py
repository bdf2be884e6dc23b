"""``tsfm models``, ``tsfm status`` and ``tsfm breaker``: a running service."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from serve_app.cli.terminal import HERE, AsJson, Token, Url, connect, print_json, screen

if TYPE_CHECKING:
    from tsfm_client import Client

INSTALLED = {True: "yes", False: "no", None: "not known"}
SKILL = "skill: 1 - loss / loss of the baseline on the same forecasts; below 0 is worse than it"
_COMMANDS = {"open": "force_open", "close": "force_closed", "reset": "reset"}  # BreakerCommand


def models(url: Url = HERE, token: Token = None, as_json: AsJson = False) -> None:
    """List the models: whether the runtime has them, what they take, their licence and skill.

    \b
    skill   1 - pinball loss / that of the baseline on the same forecasts; below 0 is worse

    \b
    Examples:
      tsfm models
      tsfm models --json | jq '.[].name'
    """
    with connect(url, token) as client:
        found = client.models()
    if as_json:
        print_json([asdict(model) for model in found])
        return
    from rich.table import Table

    titles = ("model", "installed", "aliases", "licence", "levels", "covariates", "context")
    table = Table(*titles, "skill", box=None)
    for model in found:
        table.add_row(
            model.name,
            INSTALLED[model.installed],
            ", ".join(model.aliases),
            f"{model.license}, {model.license_tag.replace('_', ' ')}",
            _levels(model.levels, model.level_range),
            (model.covariates or "not known").replace("_", " "),
            "any" if model.max_context is None else str(model.max_context),
            "not measured" if model.skill is None else f"{model.skill:+.2f}",
        )
    screen().print(table)
    typer.echo(SKILL)
    for model in found:
        measured = f" Skill: {model.skill_source}." if model.skill_source else ""
        typer.echo(f"{model.name}: {model.note or ''}{measured}")
    missing = next((model.runtime_name for model in found if model.installed is False), None)
    if missing is not None:
        typer.echo(
            f"Add one to tollama: `tollama pull {missing}`. The embedded runtime has one model."
        )


def leaderboard(url: Url = HERE, token: Token = None, as_json: AsJson = False) -> None:
    """Compare each model with the baseline, on the forecasts of this service that came true.

    \b
    skill    1 - pinball loss / that of the baseline for the same windows; below 0 is worse
    brier    of probability_above where callers sent thresholds (that of the baseline's bands)
    verdict  better or worse where the whole interval is on one side of 0
    answers  the model or the baseline, and why: its skill in the segment, its skill over all, the
             coverage of its calibrated bands, or a pin

    \b
    Examples:
      tsfm leaderboard
      tsfm leaderboard --json | jq '.skill[] | select(.verdict == "worse").segment'
    """
    with connect(url, token) as client:
        found = client.skill()
    if as_json:
        print_json(found)
        return
    from rich.table import Column, Table

    segment = Column("segment", overflow="fold")  # pins need the whole name
    table = Table(
        "model", segment, "forecasts", "skill", "interval", "coverage", "baseline's", "brier",
        "verdict", "answers", box=None,
    )  # fmt: skip
    for one in found["skill"]:
        low, high = one["skill_low"], one["skill_high"]
        shares = [one["coverage"], one["baseline_coverage"]]
        table.add_row(
            one["model"],
            one["segment"],
            str(one["forecasts"]),
            "-" if one["skill"] is None else f"{one['skill']:+.3f}",
            "-" if low is None else f"{low:+.3f} to {high:+.3f}",
            *("-" if share is None else f"{share:.1%}" for share in shares),
            "-" if one["brier"] is None else f"{one['brier']:.3f} ({one['baseline_brier']:.3f})",
            one["verdict"],
            _answering(one, found["mode"]),
        )
    screen().print(table)
    for one in found["sources"]:
        typer.echo(_of_source(one))
    if not found["skill"]:
        typer.echo(
            "Nothing is scored yet: one later request must hold all that an earlier one forecast, "
            "and neither may say observe: false."
        )
    if found["mode"] != "enforce":
        typer.echo(f"routing.mode is {found['mode']}: every answer is as if nothing were measured.")


def _answering(one: Mapping[str, Any], mode: str) -> str:
    why = "pin" if one["pinned"] else one["routed_by"]
    if mode != "enforce":
        return f"model (enforce: baseline, {why})" if one["routed"] else "model"
    return ("baseline" if one["routed"] else "model") + (f" ({why})" if why else "")


def _levels(only: Sequence[float] | None, between: Sequence[float] | None) -> str:
    if only is not None:
        return ", ".join(map(str, only)) or "none"
    return "any" if between is None else f"{between[0]} to {between[1]}"


_ADVICE = {
    "promote": "promote: better than the baseline over all, and worse in no segment",
    "hold": "hold: not enough is known, or it depends on the segment",
    "drop": "drop: worse than the baseline over all, and better in no segment",
    None: "the baseline",
}
_MISCOVERS = {
    None: "no evidence against it",
    "under": "too few, with evidence: the bands are too narrow",
    "over": "too many, with evidence: the bands are too wide",
}


def _of_source(one: Mapping[str, Any]) -> str:
    share = one["calibrated_coverage"]
    covered = "no calibrated forecast is scored yet"
    if share is not None:
        covered = f"calibrated bands hold {share:.0%} ({_MISCOVERS[one['miscovers']]})"
    return f"{one['source']}: {_ADVICE[one['advice']]}; {covered}"


def breaker(
    order: Annotated[
        Literal["open", "close", "reset"],
        typer.Argument(help="Command.", show_default=False),
    ],
    model: Annotated[str, typer.Argument(help="Name or alias, as `tsfm models` shows them.")],
    url: Url = HERE,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Force a model's breaker open or closed, or reset it.

    \b
    open    do not call the model: callers get the baseline
    close   always call the model
    reset   closed, and opened and closed automatically again
    A forced state stays until the next command. Needs a token with the scope admin.

    \b
    Examples:
      tsfm breaker open chronos
      tsfm breaker reset chronos
    """
    with connect(url, token) as client:
        state = client.order_breaker(model, _COMMANDS[order])
    if as_json:
        print_json({"model": model, "state": state})
    else:
        typer.echo(f"The breaker of {model} is {state.replace('_', ' ')} now.")


def status(
    url: Url = HERE,
    token: Token = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two updates.", min=0.2)] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show requests, latency, fallbacks, breakers and coverage.

    \b
    The numbers are those of the answering replica, over its last minutes.

    \b
    Examples:
      tsfm status
      tsfm status --watch
      tsfm status --watch --json >> status.jsonl
      tsfm status --json | jq .breakers
    """
    from serve_app.cli.views import status_view

    with connect(url, token) as client:
        if watch:
            _watch(client, every, as_json=as_json)
        elif as_json:
            print_json(client.status())
        else:
            screen().print(status_view(client.status()))


def _watch(client: "Client", every_s: float, *, as_json: bool) -> None:
    """Updates the view in place on a terminal; else prints a view, or line of JSON, each time."""
    from rich.live import Live

    from serve_app.cli.views import status_view

    console, event = screen(), threading.Event()  # never set: Ctrl-C ends the loop

    def keep(show: Callable[[Mapping[str, Any]], object]) -> None:
        keep_showing(client.status, show, lambda: event.wait(every_s))

    if as_json:
        keep(lambda status: typer.echo(json.dumps(status)))
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            keep(lambda status: live.update(status_view(status), refresh=True))
    else:
        keep(lambda status: console.print(status_view(status)))


def keep_showing(
    read: Callable[[], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], object],
    pause: Callable[[], object],
) -> None:
    """Reads and shows the status, with pauses between, until Ctrl-C is pressed."""
    with suppress(KeyboardInterrupt):
        while True:
            show(read())
            pause()
