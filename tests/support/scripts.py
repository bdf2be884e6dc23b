"""Loads what stands in .ci, which is no package."""

import importlib.util
from types import ModuleType

from tests.support.builders import ROOT


def load_script(name: str) -> ModuleType:
    """``.ci/<name>.py`` as a module, executed anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
