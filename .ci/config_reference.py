"""Writes docs/configuration.md from the models, so that it cannot say anything else.

Type, bounds, default and meaning of a key are those of `runner.config`, the values of operators'
keys those of the two shipped files. `make docs` runs it; a test fails when the page is not what it
would write.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this checkout's own models

from runner.config.loading import Config

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "configuration.md"
INTRODUCTION = """\
# Configuration

To change a setting, edit `configs/local.yaml` or `configs/prod.yaml` (the Serve config names the
file), or set an environment variable: `TSFM_` and the path of the key in capitals, with two
underscores between. `request.deadline_ms` is `TSFM_REQUEST__DEADLINE_MS`. Lists and mappings are
JSON (`TSFM_REQUEST__QUANTILES='[0.05, 0.5, 0.95]'`); `null` means none.

    tsfm check-config FILE   # what is wrong with it, before anything is started
    tsfm config FILE         # every value in use, and where it came from

Keys in **bold** are what an operator decides: they must be in the file, and the column `value` has
what the shipped files say (`local.yaml` first where they differ). All others have a default, in
the column `value`; it was measured, or follows from how the service is built. Keys marked *secret*
come from the environment only.

Files do not inherit from each other. Unknown and repeated keys are refused. Replicas read the
configuration when they start. The settings of Serve itself, replicas and queues, are in
`serve_config.yaml`. `TSFM_TOLLAMA__BASE_URL` names one runtime and
`TSFM_TOLLAMA__BASE_URLS` a list of them. `TSFM_URL` and
`TSFM_TOKEN` are for the `tsfm` command and the client, not for
the service. `make docs` writes this page from the code; do not edit it by hand.
"""


def document() -> str:
    """The whole page."""
    schema = Config.model_json_schema()
    shipped = [_shipped("local"), _shipped("prod")]
    sections = {
        n: f.annotation for n, f in Config.model_fields.items() if _is_section(f.annotation)
    }
    own = {name: of for name, of in schema["properties"].items() if name not in sections}
    parts = [INTRODUCTION, "## The service\n", *_table(Config, "", own, schema["$defs"], shipped)]
    for name, model in sections.items():
        section = schema["$defs"][model.__name__]
        summary = section["description"].partition("\n\n")[0].replace("\n", " ")
        values = [file.get(name, {}) for file in shipped]
        parts += [f"\n## `{name}`\n", f"{summary}\n"]
        parts += _table(model, f"{name}.", section["properties"], schema["$defs"], values)
    return "\n".join(parts) + "\n"


def _shipped(name: str) -> Mapping[str, Any]:
    values: Mapping[str, Any] = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text("utf-8"))
    return values


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(
    model: type[BaseModel],
    prefix: str,
    properties: Mapping[str, Mapping[str, Any]],
    definitions: Mapping[str, Any],
    shipped: list[Mapping[str, Any]],
) -> Iterator[str]:
    yield "| key | type | value | meaning |"
    yield "|---|---|---|---|"
    for name, schema in properties.items():
        field = model.model_fields[name]
        if SecretStr in get_args(field.annotation):
            value = "*secret*"
        elif field.is_required():
            value = " / ".join(dict.fromkeys(_code(v[name]) for v in shipped))
        else:
            value = _code(schema["default"])
        key = f"`{prefix}{name}`"
        meaning = (field.description or "").replace("\n", " ").replace("|", "\\|")
        shown = f"**{key}**" if field.is_required() else key
        cells = (shown, kind(schema, definitions), value, meaning)
        yield f"| {' | '.join(cells)} |"


def _code(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    return f"`{words[value] if value is None or isinstance(value, bool) else value}`"


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
    words = {"string": "text", "integer": "integer", "boolean": "true or false"}
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


if __name__ == "__main__":
    TARGET.write_text(document(), "utf-8")
    sys.stdout.write(f"wrote {TARGET.relative_to(ROOT)}\n")
