"""The page about the configuration: what `make docs` would write."""

import re

from runner.config.loading import Config
from tests.support.builders import ROOT
from tests.support.scripts import load_script


def test_page_is_up_to_date() -> None:
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == load_script(
        "config_reference"
    ).document(), "run make docs"


def test_page_has_every_key_once_with_its_users_value_and_meaning() -> None:
    lines = load_script("config_reference").document().splitlines()
    rows = [line.split(" | ") for line in lines if re.match(r"\| (\*\*)?`", line)]
    keys = []
    for section, field in Config.model_fields.items():
        fields = getattr(field.annotation, "model_fields", None) or {section: field}
        prefix = "" if section in fields else f"{section}."
        keys += [_shown(f"`{prefix}{name}`", of.is_required()) for name, of in fields.items()]

    assert sorted(row[0] for row in rows) == sorted(f"| {key}" for key in keys)
    for key, _, value, meaning in rows:
        assert value, key
        assert meaning.endswith(". |"), key


def _shown(key: str, required: bool) -> str:
    return f"**{key}**" if required else key
