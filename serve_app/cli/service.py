"""The options for address and token, and the client made from them."""

from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.terminal import InputError

if TYPE_CHECKING:
    from serve_app.client import Client

Url = Annotated[
    str, typer.Option("--url", envvar="TSFM_URL", help="Address of the service.", show_default=True)
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="TSFM_TOKEN", help="API token, if the service needs one."),
]
HERE = "http://127.0.0.1:8000"


def connect(url: str, token: str | None) -> "Client":
    """A client of the service.

    Raises:
        InputError: the address is not valid.
    """
    from serve_app.client import Client

    try:
        return Client(url, token)
    except ValueError as exc:
        raise InputError(f"--url: {exc}") from exc
