"""``tsfm breaker``: an operator's word to the breaker of a model."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.service import HERE, Token, Url, connect
from serve_app.cli.terminal import AsJson, print_json

if TYPE_CHECKING:
    from serve_app.client import BreakerAction


class Order(StrEnum):
    """What can be ordered."""

    OPEN = "open"
    CLOSE = "close"
    RESET = "reset"


def breaker(
    order: Annotated[Order, typer.Argument(help="What to do.", show_default=False)],
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
    actions: dict[Order, BreakerAction] = {
        Order.OPEN: "force_open",
        Order.CLOSE: "force_closed",
        Order.RESET: "reset",
    }
    with connect(url, token) as client:
        state = client.order_breaker(model, actions[order])
    if as_json:
        print_json({"model": model, "state": state})
    else:
        typer.echo(f"The breaker of {model} is {state.replace('_', ' ')} now.")
