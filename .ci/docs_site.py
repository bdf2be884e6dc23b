"""A hook of mkdocs: adds the files outside docs/ to the site, and adapts the links to them.

Every link in a page is relative to its file, so that it works on the code host. The site has other
paths for the files outside docs/; a link to a file that is missing here fails the strict build.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ON_THE_SITE = {  # by path in the repository
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "LICENSE": "LICENSE.txt",
    "pyproject.toml": "pyproject.toml",
    "deploy/README.md": "deploy.md",
    "deploy/serve_config.prod.yaml": "serve_config.prod.yaml",
}
IN_THE_REPOSITORY = {there: here for here, there in ON_THE_SITE.items()}
TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)[^)#\s]+")


def on_files(files: Files, config: Any) -> Files:
    """Adds the files outside docs/."""
    for here, there in ON_THE_SITE.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / here)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links between files of the repository into links between pages of the site."""
    there = page.file.src_uri
    folder = posixpath.dirname(IN_THE_REPOSITORY.get(there, f"docs/{there}"))

    def on_the_site(target: re.Match[str]) -> str:
        here = posixpath.normpath(posixpath.join(folder, target[0]))
        path = ON_THE_SITE.get(here, here.removeprefix("docs/"))
        return posixpath.relpath(path, posixpath.dirname(there) or ".")

    return TARGET.sub(on_the_site, markdown)
