"""``tsfm config``: the effective settings, and the origin of each value."""

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
