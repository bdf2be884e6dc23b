"""``tsfm status``: how the service is doing."""

import threading
from typing import TYPE_CHECKING, Annotated

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
      tsfm status --json | jq .breakers
    """
    with connect(url, token) as client:
        if watch:
            _watch(client, every)
        elif as_json:
            print_json(client.status())
        else:
            from serve_app.cli.status_view import status_view

            screen().print(status_view(client.status()))


def _watch(client: "Client", every_s: float) -> None:
    from rich.live import Live

    from serve_app.cli.status_view import status_view

    pause = threading.Event().wait  # nobody sets it: Ctrl-C ends it
    try:
        with Live(status_view(client.status()), console=screen(), auto_refresh=False) as live:
            while not pause(every_s):
                live.update(status_view(client.status()), refresh=True)
    except KeyboardInterrupt:
        return
