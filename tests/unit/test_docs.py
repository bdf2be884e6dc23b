"""The pages for users: links lead somewhere, and commands that they name exist."""

import re
from pathlib import Path

import pytest

from runner.forecast.answers import WARNINGS
from runner.types import FallbackReason
from serve_app.cli import app
from serve_app.http.errors import CODES
from tests.support.builders import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    ROOT / "deploy/README.md",
    *(ROOT / "docs").rglob("*.md"),
]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page get on the usual forges."""
    headings = (line for line in page.read_text("utf-8").splitlines() if line[:1] == "#")
    kept = (re.sub(r"[^\w\- ]", "", heading.lstrip("#").lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def broken(page: Path) -> list[str]:
    found = []
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        file = (page.parent / target) if target else page
        if target.startswith(("http:", "https:")):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(f"{target}#{anchor}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_every_page_is_linked_from_the_readme_or_from_a_page_it_links() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target, _ in LINK.findall(page.read_text("utf-8"))
        if target
    }

    assert [p.name for p in (ROOT / "docs").rglob("*.md") if p.resolve() not in linked] == []


@pytest.mark.parametrize(("drill", "name"), [("compare", "bench"), ("curves", "curves")])
def test_page_that_a_drill_writes_has_the_marks_of_its_table(drill: str, name: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (page,) = re.findall(rf"drills\.{drill} .*--write ([\w/.]+)", makefile)

    text = (ROOT / page).read_text("utf-8")
    assert 0 < text.find(f"<!-- {name} -->") < text.find(f"<!-- /{name} -->")


def test_page_of_the_command_names_every_command() -> None:
    text = (ROOT / "docs/cli.md").read_text("utf-8")
    callbacks = [command.callback for command in app.registered_commands if command.callback]
    names = [callback.__name__.replace("_", "-") for callback in callbacks]

    assert [name for name in names if f"| `tsfm {name}" not in text] == []


def test_page_of_the_interface_names_every_reason_warning_and_code() -> None:
    text = (ROOT / "docs/api.md").read_text("utf-8")
    warnings = [word for word in WARNINGS if not word.startswith("fallback_")]

    assert [word for word in (*FallbackReason, *warnings, *CODES) if f"`{word}`" not in text] == []
