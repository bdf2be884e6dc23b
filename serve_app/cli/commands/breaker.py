"""``tsfm breaker``: forces the breaker of a model open or closed, or resets it."""

from typing import Annotated, Literal

import typer

from serve_app.cli.service import HERE, Token, Url, connect
from serve_app.cli.terminal import AsJson, print_json

_COMMANDS = {"open": "force_open", "close": "force_closed", "reset": "reset"}  # BreakerCommand


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
