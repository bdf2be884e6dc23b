"""``tsfm status``: how the service is doing."""

import json
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.service import HERE, Token, Url, connect
from serve_app.cli.terminal import AsJson, print_json, screen

if TYPE_CHECKING:
    from serve_app.client import Client


def status(
    url: Url = HERE,
    token: Token = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show requests, latency, fallbacks, breakers and coverage.

    \b
    Figures are those of the replica that answers, over its last minutes.

    \b
    Examples:
      tsfm status
      tsfm status --watch
      tsfm status --watch --json >> status.jsonl
      tsfm status --json | jq .breakers
    """
    with connect(url, token) as client:
        if watch:
            _watch(client, every, as_json=as_json)
        elif as_json:
            print_json(client.status())
        else:
            from serve_app.cli.status_view import status_view

            screen().print(status_view(client.status()))


def _watch(client: "Client", every_s: float, *, as_json: bool) -> None:
    """On a terminal the view is drawn anew; a pipe gets one after the other, or a line of JSON."""
    from rich.live import Live

    from serve_app.cli.status_view import status_view

    console, pause = screen(), threading.Event().wait  # nobody sets it: Ctrl-C ends it
    if as_json:
        keep_showing(client.status, lambda s: typer.echo(json.dumps(s)), lambda: pause(every_s))
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            update = partial(live.update, refresh=True)
            keep_showing(client.status, lambda s: update(status_view(s)), lambda: pause(every_s))
    else:
        keep_showing(client.status, lambda s: console.print(status_view(s)), lambda: pause(every_s))


def keep_showing(
    look: Callable[[], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], object],
    pause: Callable[[], bool],
) -> None:
    """Shows what a look finds, until a pause says that it is enough, or Ctrl-C does."""
    try:
        show(look())
        while not pause():
            show(look())
    except KeyboardInterrupt:
        return
