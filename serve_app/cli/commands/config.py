"""``tsfm config``: every setting in force, and where its value came from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_app.cli.terminal import AsJson, found_here, print_json

if TYPE_CHECKING:
    from runner.config.loading import EffectiveSetting


def config(
    file: Annotated[Path, typer.Argument(help="The configuration file.")] = Path(
        "configs/local.yaml"
    ),
    as_json: AsJson = False,
) -> None:
    """Show every setting in force and where its value came from.

    \b
    default      the file does not name it
    file         the file names it
    environment  a TSFM_ variable of this shell sets it, and wins over the file
    Secrets are hidden. docs/configuration.md says what each setting means.

    \b
    Examples:
      tsfm config
      tsfm config configs/prod.yaml --json
      TSFM_REQUEST__DEADLINE_MS=300 tsfm config | grep environment
    """
    from runner.config.loading import effective_settings

    settings = list(effective_settings(found_here(file)))
    if as_json:
        print_json({s.key: {"value": s.value, "origin": s.origin} for s in settings})
    else:
        typer.echo("\n".join(_lines(settings)))


def _lines(settings: "list[EffectiveSetting]") -> list[str]:
    width = max(len(setting.key) for setting in settings)
    return [f"{s.key:<{width}}  {s.origin:<11}  {_text(s.value)}" for s in settings]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
