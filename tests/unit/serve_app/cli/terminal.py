"""The command as a test types it."""

from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from serve_app.cli import app


@dataclass(frozen=True, slots=True)
class Terminal:
    """Runs the command with these variables."""

    variables: dict[str, str]

    def __call__(self, *words: object, stdin: str | None = None) -> Any:
        return CliRunner().invoke(app, [str(w) for w in words], input=stdin, env=self.variables)
