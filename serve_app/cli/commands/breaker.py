"""``tsfm breaker``: an operator's command to the breaker of a model."""

from typing import Annotated, Literal

import typer

from serve_app.cli.service import HERE, Token, Url, connect
from serve_app.cli.terminal import AsJson, print_json

_COMMANDS = {"open": "force_open", "close": "force_closed", "reset": "reset"}  # BreakerCommand


def breaker(
    order: Annotated[
        Literal["open", "close", "reset"],
        typer.Argument(help="What to do.", show_default=False),
    ],
    model: Annotated[str, typer.Argument(help="By any name that `tsfm models` shows.")],
    url: Url = HERE,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Force a model's breaker open or closed, or reset it.

    \b
    open    leave the model alone: callers get the baseline
    close   ask the model whatever happens
    reset   closed as on the first day, and by itself again
    What is forced stays forced until the next order. Needs a token with the scope admin.

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
