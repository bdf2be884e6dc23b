"""Where a command meets the terminal: data on stdout, everything else on stderr, one exit code.

code   when
----   --------------------------------------------------------------------------
0      done
1      the service answered with an error, or ended by itself
2      wrong usage, a file or value that cannot be used, or a service not reachable
"""

import json
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from runner.errors import ConfigError

SERVICE_FAILED = 1
WRONG_INPUT = 2

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Commands(TyperGroup):
    """The command group; whatever a command raises on purpose becomes one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except _wrong_files() as exc:  # looked up only when something was raised: it loads numpy
            fail(str(exc), WRONG_INPUT)


def _wrong_files() -> type["ConfigError"]:
    from runner.errors import ConfigError

    return ConfigError


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
