"""The ``tsfm`` command: one file for each command, put together here.

Heavy libraries (Ray, httpx, numpy) are imported where they are used, so that ``tsfm --help`` is
fast. ``terminal.Commands`` turns exceptions into a message and an exit code.
"""

import typer

from serve_app.cli.commands.backtest import backtest, calibrate
from serve_app.cli.commands.bench import bench
from serve_app.cli.commands.breaker import breaker
from serve_app.cli.commands.check_config import check_config
from serve_app.cli.commands.config import config
from serve_app.cli.commands.forecast import forecast
from serve_app.cli.commands.models import models
from serve_app.cli.commands.serve import serve
from serve_app.cli.commands.status import status
from serve_app.cli.terminal import Commands, help_of

app = typer.Typer(
    cls=Commands,
    help="Quantile bands for prediction markets: run the service, request forecasts, operate it.",
    epilog="Exit codes: 0 done, 1 the service refused or failed, 2 invalid input or not reachable.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: examples keep their lines, and pipes get no boxes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (serve, forecast, models, status, breaker, check_config, config, backtest, calibrate)
for command in COMMANDS:
    app.command(help=help_of(command))(command)
app.command(
    help=help_of(bench), context_settings={"ignore_unknown_options": True}, add_help_option=False
)(bench)
