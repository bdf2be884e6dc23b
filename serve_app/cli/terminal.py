"""Where a command meets the terminal: data on stdout, everything else on stderr, one exit code.

code   when
----   --------------------------------------------------------------------------
0      done
1      the service said not now or not you, failed, or ended by itself
2      wrong usage, a file or value that cannot be used, or a service not reachable
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

SERVICE_FAILED = 1
WRONG_INPUT = 2
OF_THE_INPUT = frozenset(  # what the service says when the same input can never be served
    {
        *("invalid_json", "invalid_request", "unknown_model", "model_not_allowed"),
        *("body_too_large", "batch_too_long"),
    }
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class InputError(Exception):
    """A file or a value that cannot be used; the text says which and why."""


def found_here(file: Path) -> Path:
    """The file, which by default is one of the repository's.

    Raises:
        InputError: it is not there.
    """
    if not file.exists():
        raise InputError(
            f"There is no {file} here: run this in the folder of TSFM Runner, or name another."
        )
    return file


class Commands(TyperGroup):
    """The command group; whatever a command raises on purpose becomes one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except InputError as exc:
            fail(str(exc), WRONG_INPUT)
        except _errors_of_others() as exc:  # looked up only when something was raised: it is heavy
            fail(str(exc), exit_code_of(exc))


def _errors_of_others() -> tuple[type[Exception], ...]:
    from runner.errors import ConfigError
    from serve_app.client import ClientError

    return ConfigError, ClientError


def exit_code_of(error: BaseException) -> int:
    """The code for an error: whether it is the input's or the service's."""
    from serve_app.client import ServiceError

    if isinstance(error, ServiceError) and error.code not in OF_THE_INPUT:
        return SERVICE_FAILED
    return WRONG_INPUT


def help_of(command: Callable[..., None]) -> str:
    r"""A command's docstring as click wants it: the ``\b`` of a raw one is a real backspace there.

    It stands before lines that are to stay as they are.
    """
    return inspect.cleandoc(command.__doc__ or "").replace("\\b", "\b")


def fail(sentence: str, code: int) -> NoReturn:
    """Says what is wrong on stderr, and ends."""
    note(sentence)
    raise typer.Exit(code)


def note(text: str) -> None:
    """Something for the person, which no pipe gets."""
    typer.echo(text, err=True)


def print_json(value: Any) -> None:
    """Data for programs."""
    typer.echo(json.dumps(value, indent=2))


def screen() -> "Console":
    """The terminal behind stdout; in a pipe it is wide, so that no row is broken."""
    from rich.console import Console

    plain: Any = {"highlight": False, "markup": False, "emoji": False}  # names may hold [ and :
    console = Console(**plain)
    return console if console.is_terminal else Console(**plain, width=160)
