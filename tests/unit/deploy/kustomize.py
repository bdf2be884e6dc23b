"""Resolves an overlay as Kustomize does, for the features that deploy/kustomize uses, so that a
machine without kubectl can check what it gives. A test holds it against kubectl where there is one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Doc = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "images", "patches"}


def build(folder: Path) -> list[Doc]:
    """The objects of a kustomization, in no particular order."""
    return list(_applied(folder, []))


def documents(path: Path) -> list[Doc]:
    """The objects of a YAML file."""
    return [doc for doc in yaml.safe_load_all(path.read_text()) if doc is not None]


def named(docs: list[Doc], kind: str, name: str = "tsfm") -> Doc:
    """The one object of a kind and a name."""
    (found,) = (d for d in docs if (d["kind"], d["metadata"]["name"]) == (kind, name))
    return found


def _applied(folder: Path, docs: list[Doc]) -> list[Doc]:
    (rules,) = documents(folder / "kustomization.yaml")
    assert set(rules) <= KNOWN, f"{folder}: this resolver does not know {set(rules) - KNOWN}"
    docs = [*docs, *(d for entry in rules.get("resources", ()) for d in _resource(folder / entry))]
    for component in rules.get("components", ()):
        docs = _applied(folder / component, docs)
    for patch in rules.get("patches", ()):
        docs = [_patched(doc, patch["target"], folder / patch["path"]) for doc in docs]
    for doc in docs:
        _set_images(doc, rules.get("images", ()))
        if "namespace" in rules and doc["kind"] != "Namespace":
            doc["metadata"]["namespace"] = rules["namespace"]
    return docs


def _resource(path: Path) -> list[Doc]:
    return build(path) if path.is_dir() else documents(path)


def _patched(doc: Doc, target: Doc, patch: Path) -> Doc:
    group, _, version = doc["apiVersion"].rpartition("/")
    about = {"group": group, "version": version, "kind": doc["kind"]}
    if about | {"name": doc["metadata"]["name"]} != target:
        return doc
    # one tree, no branch shared with another by a YAML anchor: a patch must change one place
    alone = yaml.safe_load(yaml.dump(doc, Dumper=_NoAliases))
    patched: Doc = jsonpatch.apply_patch(alone, yaml.safe_load(patch.read_text()))
    return patched


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _set_images(doc: Doc, images: list[Doc]) -> None:
    for container in containers(doc):
        name, _, tag = container["image"].partition(":")
        for image in (i for i in images if i["name"] == name):
            tag = image.get("newTag", tag)
            container["image"] = f"{image.get('newName', name)}:{tag}"


def containers(node: Any) -> Iterator[Doc]:
    """Every container below a node, at whatever depth its kind keeps them."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from value if key in ("containers", "initContainers") else containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)
