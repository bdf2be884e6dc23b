"""``tsfm serve``, ``check-config``, ``config``, ``bench``: files and processes of this machine."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.terminal import (
    CHECKOUT,
    WRONG_INPUT,
    AsJson,
    fail,
    found_config,
    found_here,
    print_json,
)

PROD = Path("deploy/serve_config.prod.yaml")


def serve(
    config: Annotated[Path, typer.Option(help="The Serve config to run.")] = Path(
        "serve_config.yaml"
    ),
    prod: Annotated[bool, typer.Option("--prod", help=f"Run {PROD} instead.")] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; by default that of the file.")
    ] = None,
) -> None:
    """Run the service here until Ctrl-C.

    \b
    The files are checked first. High-throughput mode is used where the system supports it.

    \b
    Examples:
      tsfm serve
      TSFM_TOLLAMA__BASE_URL=http://127.0.0.1:11435 tsfm serve
      tsfm serve --port 8001
    """
    from serve_app.launch.launcher import main

    raise typer.Exit(main(found_here(PROD if prod else config), port))


def check_config(
    files: Annotated[
        list[Path],
        typer.Argument(help="Serve configs, RayService manifests, our configuration, registries."),
    ],
    as_json: AsJson = False,
) -> None:
    """Check configuration files strictly.

    \b
    Unknown keys, which Serve ignores, are errors here.
    Files that a Serve config names are checked too, with the TSFM_ variables of this shell.
    Exit code 0 if all are valid, 2 if one is not.

    \b
    Examples:
      tsfm check-config serve_config.yaml
      tsfm check-config my_config.yaml my_models.yaml
    """
    from runner.errors import ConfigError
    from serve_app.launch.config_check import check_file

    found: list[tuple[str, str | None, str | None]] = []  # file, kind, error
    for file in files:
        try:
            found += [(str(valid), kind, None) for valid, kind in check_file(file)]
        except ConfigError as exc:
            found.append((str(file), None, str(exc)))
    if as_json:
        print_json([dict(zip(("file", "kind", "error"), row, strict=True)) for row in found])
    else:
        for name, kind, error in dict.fromkeys(found):  # several files may name the same one
            line = f"wrong  {error}" if error else f"ok     {name} ({kind})"
            typer.echo(line, err=error is not None)
    if any(error for _, _, error in found):
        raise typer.Exit(WRONG_INPUT)


def config(
    file: Annotated[Path, typer.Argument(help="The configuration file.")] = Path(
        "configs/local.yaml"
    ),
    as_json: AsJson = False,
) -> None:
    """Show the effective settings and the origin of each value.

    \b
    default      not in the file
    file         set in the file
    environment  set by a TSFM_ variable of this shell, which overrides the file
    Secrets are hidden. docs/configuration.md explains each setting.

    \b
    Examples:
      tsfm config
      tsfm config configs/prod.yaml --json
      TSFM_REQUEST__DEADLINE_MS=300 tsfm config | grep environment
    """
    from runner.config.loading import effective_settings

    settings = list(effective_settings(found_config(file)))
    if as_json:
        print_json({s.key: {"value": s.value, "origin": s.origin} for s in settings})
        return
    width = max(len(setting.key) for setting in settings)
    for s in settings:
        value = s.value if isinstance(s.value, str) else json.dumps(s.value)
        typer.echo(f"{s.key:<{width}}  {s.origin:<11}  {value}")


def bench(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Options of loadtest.bench.")
    ] = None,
) -> None:
    """Measure the service (needs the repository).

    \b
    Examples:
      tsfm bench
      tsfm bench --url http://127.0.0.1:8000 --model chronos --concurrency 2 --json
    """
    if not (CHECKOUT / "loadtest" / "bench.py").is_file():
        fail("The load tests are part of the repository: install tsfm from there.", WRONG_INPUT)
    os.chdir(CHECKOUT)
    os.execv(sys.executable, [sys.executable, "-m", "loadtest.bench", *(arguments or [])])
