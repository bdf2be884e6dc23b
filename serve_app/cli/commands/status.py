"""``tsfm status``: shows the state of the service."""

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
    with connect(url, token) as client:
        if watch:
            _watch(client, every, as_json=as_json)
        elif as_json:
            print_json(client.status())
        else:
            from serve_app.cli.status_view import status_view

            screen().print(status_view(client.status()))


def _watch(client: "Client", every_s: float, *, as_json: bool) -> None:
    """Updates the view in place on a terminal; else prints a view, or line of JSON, each time."""
    from rich.live import Live

    from serve_app.cli.status_view import status_view

    console, pause = screen(), threading.Event().wait  # never set: Ctrl-C ends the loop
    if as_json:
        keep_showing(client.status, lambda s: typer.echo(json.dumps(s)), lambda: pause(every_s))
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            update = partial(live.update, refresh=True)
            keep_showing(client.status, lambda s: update(status_view(s)), lambda: pause(every_s))
    else:
        keep_showing(client.status, lambda s: console.print(status_view(s)), lambda: pause(every_s))


def keep_showing(
    read: Callable[[], Mapping[str, Any]],
    show: Callable[[Mapping[str, Any]], object],
    pause: Callable[[], bool],
) -> None:
    """Reads and shows the status until ``pause`` returns True or Ctrl-C is pressed."""
    try:
        show(read())
        while not pause():
            show(read())
    except KeyboardInterrupt:
        return
