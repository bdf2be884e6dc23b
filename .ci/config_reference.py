"""Writes docs/configuration.md from the models, so that it cannot say anything else.

Key, type and bounds are those of `runner.config`, the values those of the two shipped files. What a
key means is the comment behind its field in the source, or stands in `config_meanings.yaml` beside
this script. `make docs` runs it; a test fails when the file is not what it would write.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout's own models

from runner.config import ENV_PREFIX, Config

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "configuration.md"
MEANINGS = Path(__file__).with_name("config_meanings.yaml")
INTRODUCTION = """\
# Configuration

Written by `make docs` from the models themselves; do not edit it by hand.

A service reads one file, `configs/local.yaml` or `configs/prod.yaml` as its Serve config says
(`args: {config: ...}`). The file is the whole truth: every key must be there, unknown and repeated
ones are refused, and `tsfm check-config configs/local.yaml` says what is wrong before anything is
started. Copy one of the two and change it; there is no inheritance between files.

Any key can be overridden by an environment variable, `TSFM_` and its path in capitals with two
underscores between: `request.deadline_ms` is `TSFM_REQUEST__DEADLINE_MS`. Lists are written as JSON
(`TSFM_REQUEST__QUANTILES='[0.05, 0.5, 0.95]'`), nothing as `null`. Keys marked *secret* come from
the environment only. Replicas read the configuration when they start.

What Serve itself is told, replicas and queues, stands in `serve_config.yaml`. `TSFM_URL` and
`TSFM_TOKEN` are for the `tsfm` command and the client, not for the service.
"""


def document() -> str:
    """The whole page.

    Raises:
        KeyError: a key has no meaning; the text says where to write it.
    """
    shipped = {name: _values(name) for name in ("local", "prod")}
    schema, meanings = Config.model_json_schema(), yaml.safe_load(MEANINGS.read_text("utf-8"))
    parts = [INTRODUCTION, "## The service\n", _table(Config, "", schema, shipped, meanings)]
    for name, model in _sections():
        parts += [f"\n## `{name}`\n", f"{_first_paragraph(model)}\n"]
        section = schema["$defs"][model.__name__] | {"$defs": schema["$defs"]}
        values = {file: content[name] for file, content in shipped.items()}
        parts.append(_table(model, name, section, values, meanings))
    return "\n".join(parts) + "\n"


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield name, kind


def _table(
    model: type[BaseModel],
    section: str,
    schema: Mapping[str, Any],
    shipped: Mapping[str, Mapping[str, Any]],
    meanings: Mapping[str, str],
) -> str:
    rows = ["| key | type | local | prod | meaning |", "|---|---|---|---|---|"]
    comments = _comments(model)
    own = dict(_sections()) if not section else {}
    for name in model.model_fields:
        if name in own:
            continue
        key = f"{section}.{name}" if section else name
        meaning = meanings.get(key) or comments.get(name)
        if meaning is None:
            raise KeyError(f"{key} has no meaning: write it behind the field, or in {MEANINGS}")
        values = [_shown(shipped[file], name) for file in ("local", "prod")]
        type_ = kind(schema["properties"][name], schema["$defs"])
        rows.append(f"| `{key}` | {type_} | {values[0]} | {values[1]} | {_cell(meaning)} |")
    return "\n".join(rows)


def _comments(model: type[BaseModel]) -> Mapping[str, str]:
    """What stands behind each field in the source."""
    found = re.finditer(r"^    (\w+): [^#\n]*# (.+)$", inspect.getsource(model), re.MULTILINE)
    return {match[1]: match[2].strip() for match in found}


def _first_paragraph(model: type[BaseModel]) -> str:
    return inspect.getdoc(model).partition("\n\n")[0].replace("\n", " ")  # type: ignore[union-attr] # lint wants one


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "*secret*"
    value = values[name]
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Type and bounds in words.

    >>> kind({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, {})
    'number over 0, at most 1'
    """
    if "$ref" in schema:
        return kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return " or ".join(kind(part, definitions) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema['items'], definitions)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    plain = {"null": "`null`", "object": "mapping"} | words
    name = "address" if schema.get("format") == "uri" else plain.get(schema["type"], "number")
    return ", ".join([" ".join([name, *_lower(schema)]), *_upper(schema)])


def _lower(schema: Mapping[str, Any]) -> list[str]:
    if "exclusiveMinimum" in schema:
        return [f"over {schema['exclusiveMinimum']:g}"]
    return [f"from {schema['minimum']:g}"] if "minimum" in schema else []


def _upper(schema: Mapping[str, Any]) -> list[str]:
    if "exclusiveMaximum" in schema:
        return [f"under {schema['exclusiveMaximum']:g}"]
    return [f"at most {schema['maximum']:g}"] if "maximum" in schema else []


def _cell(text: str) -> str:
    text = text.replace("|", "\\|")
    return text[0].upper() + text[1:]


def _values(name: str) -> Mapping[str, Any]:
    values: Mapping[str, Any] = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    return values


if __name__ == "__main__":
    assert ENV_PREFIX == "TSFM_"  # as the introduction says
    TARGET.write_text(document(), "utf-8")
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)}\n")
