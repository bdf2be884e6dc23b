"""The service that a command asks: where it is, and who asks."""

from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.terminal import InputError

if TYPE_CHECKING:
    from serve_app.client import Client

Url = Annotated[
    str, typer.Option("--url", envvar="TSFM_URL", help="Where the service is.", show_default=True)
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="TSFM_TOKEN", help="An API token, where it wants one."),
]
HERE = "http://127.0.0.1:8000"


def connect(url: str, token: str | None) -> "Client":
    """A client of the service.

    Raises:
        InputError: the address is none.
    """
    from serve_app.client import Client

    try:
        return Client(url, token)
    except ValueError as exc:
        raise InputError(f"--url: {exc}") from exc
