"""A service on a port of its own, for commands: they talk real HTTP."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from tests.support.site import running_site


@dataclass(frozen=True, slots=True)
class Terminal:
    """Runs the command with these variables."""

    variables: dict[str, str]

    def __call__(self, *words: object, stdin: str | None = None) -> Any:
        return CliRunner().invoke(app, [str(w) for w in words], input=stdin, env=self.variables)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_site() as site:
        yield site.url


@pytest.fixture
def tsfm(url: str) -> Terminal:
    """The command, in front of that service."""
    return Terminal({"TSFM_URL": url, "TSFM_TOKEN": ""})
