"""What the commands share: options, the client, output and the exit code.

Data goes to stdout, everything else to stderr.

code   when
----   --------------------------------------------------------------------------
0      done
1      the service refused (overloaded, not authorized), failed, or ended
2      wrong usage, an invalid file or value, or a service that is not reachable
"""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

    from tsfm_client import Client

SERVICE_FAILED = 1
WRONG_INPUT = 2
OF_THE_INPUT = (  # error codes for input that is never accepted
    "invalid_json", "invalid_request", "unknown_model", "model_not_allowed", "body_too_large",
    "batch_too_long",
)  # fmt: skip

HERE = "http://127.0.0.1:8000"
Url = Annotated[
    str, typer.Option("--url", envvar="TSFM_URL", help="Address of the service.", show_default=True)
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="TSFM_TOKEN", help="API token, if the service needs one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


CHECKOUT = Path(__file__).resolve().parents[2]  # of an editable installation


class InputError(Exception):
    """An invalid file or value; the text names it and the reason."""


def found_here(file: Path) -> Path:
    """The file, perhaps a default of the repository; InputError if it does not exist."""
    if not file.exists():
        raise InputError(
            f"There is no {file} here: run this in the folder of TSFM Runner, or name another."
        )
    return file


def check_folder(option: str, file: Path | None) -> None:
    """InputError if the file of an option could not be written at the end of the work."""
    if file is not None and not os.access(file.parent, os.W_OK):
        raise InputError(f"{option} {file}: cannot be written; is there a folder {file.parent}?")


def found_config(file: Path) -> Path:
    """The same; a file that is not here is also looked for in the checkout of this program."""
    own = CHECKOUT / file
    return own if own.exists() and not file.exists() else found_here(file)


def connect(url: str, token: str | None) -> "Client":
    """A client of the service; InputError if the address is not valid."""
    from tsfm_client import Client

    try:
        return Client(url, token)
    except ValueError as exc:
        raise InputError(f"--url: {exc}") from exc


class Commands(TyperGroup):
    """The command group; turns expected errors of a command into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except _expected_errors() as exc:  # evaluated only after an error: a heavy import
            fail(message_of(exc), exit_code_of(exc))


def _expected_errors() -> tuple[type[Exception], ...]:
    from runner.errors import ConfigError
    from tsfm_client import ClientError
    from tsfm_client.series_files import SeriesFileError

    return InputError, ConfigError, ClientError, SeriesFileError


def exit_code_of(error: BaseException) -> int:
    """The exit code of an error: invalid input or service."""
    from tsfm_client import ServiceError

    if isinstance(error, ServiceError) and error.code not in OF_THE_INPUT:
        return SERVICE_FAILED
    return WRONG_INPUT


def message_of(error: BaseException) -> str:
    """The text of an error, with the option or command that helps, if there is one."""
    from tsfm_client import ServiceError, UnreachableError

    if isinstance(error, UnreachableError):
        return f"{error} Its address is set by --url or TSFM_URL."
    if isinstance(error, ServiceError) and error.code == "unknown_model":
        return f"{error} See `tsfm models`."
    return str(error)


def help_of(command: Callable[..., None]) -> str:
    r"""A command's docstring; the ``\b`` of a raw one becomes click's mark for unwrapped lines."""
    return inspect.cleandoc(command.__doc__ or "").replace("\\b", "\b")


def fail(sentence: str, code: int) -> NoReturn:
    """Writes an error message to stderr, and exits."""
    note(sentence)
    raise typer.Exit(code)


def note(text: str) -> None:
    """Writes a message to stderr."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """Writes JSON to stdout."""
    typer.echo(json.dumps(value, indent=2))


def screen() -> "Console":
    """The terminal behind stdout; in a pipe it is wide, so that no row is broken."""
    from rich.console import Console

    plain: Any = {"highlight": False, "markup": False, "emoji": False}  # names may hold [ and :
    console = Console(**plain)
    return console if console.is_terminal else Console(**plain, width=240)
