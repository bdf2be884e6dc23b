"""``tsfm check-config``: checks configuration files without starting anything."""

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.terminal import WRONG_INPUT, AsJson, print_json

WRONG = "wrong  "


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
      tsfm check-config configs/*.yaml deploy/*.yaml
    """
    from runner.errors import ConfigError
    from serve_app.launch.config_check import check_file

    found: list[dict[str, str | None]] = []
    for file in files:
        try:
            found += [
                {"file": str(sound.file), "kind": sound.kind, "error": None}
                for sound in check_file(file)
            ]
        except ConfigError as exc:
            found.append({"file": str(file), "kind": None, "error": str(exc)})
    if as_json:
        print_json(found)
    else:
        for line in dict.fromkeys(map(_line, found)):  # several files may name the same one
            typer.echo(line, err=line.startswith(WRONG))
    if any(row["error"] for row in found):
        raise typer.Exit(WRONG_INPUT)


def _line(row: dict[str, str | None]) -> str:
    return f"{WRONG}{row['error']}" if row["error"] else f"ok     {row['file']} ({row['kind']})"
