"""``tsfm serve``: runs the service on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.terminal import found_here

PROD = Path("deploy/serve_config.prod.yaml")


def serve(
    config: Annotated[Path, typer.Option(help="The Serve config to run.")] = Path(
        "serve_config.yaml"
    ),
    prod: Annotated[bool, typer.Option("--prod", help=f"Run {PROD} instead.")] = False,
) -> None:
    """Run the service here until Ctrl-C.

    \b
    The files are checked first. High-throughput mode is used where the system supports it.

    \b
    Examples:
      tsfm serve
      TSFM_TOLLAMA__BASE_URL=http://127.0.0.1:11435 tsfm serve
      tsfm serve --config my_serve_config.yaml
    """
    from serve_app.launch.launcher import main

    raise typer.Exit(main(found_here(PROD if prod else config)))
