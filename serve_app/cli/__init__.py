"""The ``tsfm`` command, put together from the functions in the modules ``*_commands``.

Heavy libraries (Ray, httpx, numpy) are imported where they are used, so that ``tsfm --help`` is
fast. ``terminal.Commands`` turns exceptions into a message and an exit code.
"""

import io
import sys
from typing import Annotated

import typer

from serve_app.cli.backtest_commands import backtest, calibrate
from serve_app.cli.forecast_commands import forecast
from serve_app.cli.local_commands import bench, check_config, config, serve
from serve_app.cli.service_commands import breaker, leaderboard, models, status
from serve_app.cli.terminal import Commands, help_of
from serve_app.cli.watch_commands import watch
from serve_app.version import package_version

app = typer.Typer(
    cls=Commands,
    help="Quantile bands for prediction markets: run the service, request forecasts, operate it.",
    epilog="Exit codes: 0 done, 1 the service refused or failed, 2 invalid input or not reachable.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: examples keep their lines, and pipes get no boxes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tsfm {package_version()}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    """Options before a command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a character that it lacks must end no command
        sys.stdout.reconfigure(errors="replace")


COMMANDS = (
    *(serve, forecast, watch, models, leaderboard, status, breaker),
    *(check_config, config, backtest, calibrate),
)
for command in COMMANDS:
    app.command(help=help_of(command))(command)
app.command(
    help=help_of(bench), context_settings={"ignore_unknown_options": True}, add_help_option=False
)(bench)
