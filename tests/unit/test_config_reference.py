"""The page about the configuration: what `make docs` would write."""

import pytest
import yaml

from runner.config import Config
from tests.builders import ROOT
from tests.scripts import load_script


def test_page_is_up_to_date() -> None:
    assert (ROOT / "docs/configuration.md").read_text("utf-8") == load_script(
        "config_reference"
    ).document(), "run make docs"


def test_page_has_every_key_once() -> None:
    text = load_script("config_reference").document()
    for section, field in Config.model_fields.items():
        fields = getattr(field.annotation, "model_fields", None)
        keys = [f"{section}.{name}" for name in fields] if fields else [section]
        assert [key for key in keys if text.count(f"| `{key}` |") != 1] == []


def test_meanings_are_of_keys_that_exist() -> None:
    text = load_script("config_reference").document()
    meanings = yaml.safe_load((ROOT / ".ci/config_meanings.yaml").read_text("utf-8"))

    assert [key for key in meanings if f"| `{key}` |" not in text] == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number from 0, under 1"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"anyOf": [{"$ref": "#/$defs/S"}, {"type": "null"}]}, "`a` or `b` or `null`"),
        ({"type": "string", "format": "uri"}, "address"),
    ],
)
def test_types_are_told_in_words(schema: dict[str, object], words: str) -> None:
    found = load_script("config_reference").kind(schema, {"S": {"enum": ["a", "b"]}})

    assert found == words
