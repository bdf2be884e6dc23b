"""Whether two versions of the interface understand each other: what one writes, the other reads.

``complaints(reader, writer)`` walks two OpenAPI schemas side by side. Of requests the old version
is the writer and the new one the reader; of answers it is the other way round, and a reader of
answers expects fields that it does not know.

    python -m tests.contract    # writes this version's document for later ones to be held against
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from serve_app.version import package_version
from tests.support.builders import ROOT
from tests.support.openapi import DOCUMENT

RELEASES = ROOT / "tests/data/contract"
Schema = Mapping[str, Any]
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_GROWING = (".error.code", ".fallback_reason", ".warnings[]")  # docs/api.md tells callers
_SAME = ("pattern", "const", "multipleOf")


@dataclass(frozen=True, slots=True)
class Side:
    """A schema and the document whose references it follows."""

    document: Schema
    schema: Schema

    def to(self, schema: Schema) -> "Side":
        """Another schema of the same document, through its references."""
        while "$ref" in schema:
            target: Any = self.document
            for step in schema["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            schema = target
        return Side(self.document, schema)

    def choices(self) -> list["Side"]:
        """What a value may be, one by one."""
        branches = self.schema.get("anyOf") or self.schema.get("oneOf")
        if branches:
            return [choice for branch in branches for choice in self.to(branch).choices()]
        types = self.schema.get("type")
        if isinstance(types, list):
            return [Side(self.document, {**self.schema, "type": one}) for one in types]
        return [self]


def complaints(reader: Side, writer: Side, at: str = "", *, answers: bool = False) -> Iterator[str]:
    """What the writer may write that the reader does not take, by path.

    Args:
        reader: of the version that reads.
        writer: of the version that writes.
        at: the path so far.
        answers: the reader takes fields it does not know.
    """
    reader, writer = reader.to(reader.schema), writer.to(writer.schema)
    for written in writer.choices():
        tried = [list(_plain(read, written, at, answers)) for read in reader.choices()]
        if all(tried):
            yield from min(tried, key=lambda found: (len(found), -len(found[0])))


def _plain(reader: Side, writer: Side, at: str, answers: bool) -> Iterator[str]:
    read, written = reader.schema, writer.schema
    if not _takes(read.get("type"), written.get("type")):
        yield f"{at}: {written.get('type')} is not {read.get('type')}"
        return
    strange = sorted(set(_values(written)) - set(read["enum"])) if "enum" in read else []
    if strange and not (answers and at.endswith(_GROWING)):
        yield f"{at}: values that are not known: {strange}"
    yield from (f"{at}: {key}" for key in _SAME if key in read and read[key] != written.get(key))
    yield from (f"{at}: {key}" for key in _UPPER if key in read and not _most(written, key, read))
    yield from (f"{at}: {key}" for key in _LOWER if key in read and not _least(written, key, read))
    yield from _members(reader, writer, at, answers)
    if "items" in read and "items" in written:
        items = reader.to(read["items"]), writer.to(written["items"])
        yield from complaints(*items, f"{at}[]", answers=answers)


def _members(reader: Side, writer: Side, at: str, answers: bool) -> Iterator[str]:
    read, written = reader.schema, writer.schema
    missing = set(read.get("required", ())) - set(written.get("required", ()))
    yield from (f"{at}.{name}: may be missing" for name in sorted(missing))
    known, more = read.get("properties", {}), read.get("additionalProperties", True)
    for name, schema in written.get("properties", {}).items():
        if name in known:
            both = reader.to(known[name]), writer.to(schema)
            yield from complaints(*both, f"{at}.{name}", answers=answers)
        elif more is False and not answers:
            yield f"{at}.{name}: is not known"
    if isinstance(more, Mapping) and isinstance(written.get("additionalProperties"), Mapping):
        both = reader.to(more), writer.to(written["additionalProperties"])
        yield from complaints(*both, f"{at}.*", answers=answers)


def _values(schema: Schema) -> list[Any]:
    return list(schema.get("enum", [schema["const"]] if "const" in schema else ["anything"]))


def _takes(read: str | None, written: str | None) -> bool:
    return read is None or read == written or (read, written) == ("number", "integer")


def _most(written: Schema, key: str, read: Schema) -> bool:
    return key in written and bool(written[key] <= read[key])


def _least(written: Schema, key: str, read: Schema) -> bool:
    return key in written and bool(written[key] >= read[key])


def of_requests(old: Schema, new: Schema) -> Iterator[str]:
    """What callers of the old version send and the new version would refuse."""
    for path, method, before in _operations(old):
        now = new["paths"].get(path, {}).get(method)
        if now is None:
            yield f"{method.upper()} {path}: is gone"
            continue
        for media, content in before.get("requestBody", {}).get("content", {}).items():
            taken = now["requestBody"]["content"].get(media)
            if taken is None:
                yield f"{method.upper()} {path}: does not take {media}"
                continue
            sides = Side(new, taken["schema"]), Side(old, content["schema"])
            yield from complaints(*sides, f"{method.upper()} {path}")


def of_answers(old: Schema, new: Schema) -> Iterator[str]:
    """What the new version answers and callers of the old one do not expect."""
    for path, method, before in _operations(old):
        now = new["paths"].get(path, {}).get(method, {"responses": {}})
        for media, content in before["responses"].get("200", {}).get("content", {}).items():
            told = now["responses"].get("200", {}).get("content", {}).get(media)
            if told is None:
                yield f"{method.upper()} {path}: does not answer {media}"
                continue
            sides = Side(old, content["schema"]), Side(new, told["schema"])
            yield from complaints(*sides, f"{method.upper()} {path}", answers=True)


def _operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


if __name__ == "__main__":
    released = RELEASES / f"{package_version()}.json"
    released.write_bytes(orjson.dumps(DOCUMENT, option=orjson.OPT_INDENT_2) + b"\n")
