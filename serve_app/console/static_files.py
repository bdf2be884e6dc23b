"""Files for browsers: a fixed table of names, each read and compressed once, when first requested.

No part of a request becomes a file path, so only files of the table can be read.
"""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response

MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
ASK_AGAIN = "no-cache"  # the browser keeps it, but asks before each use whether it has changed
FOR_GOOD = "public, max-age=31536000, immutable"  # the name holds the version
# The hash of an empty <style>: plotly adds one, and fills it through the object model.
_EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' {_EMPTY_STYLE}",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Path of a file, how long a browser may keep it, and the values of its placeholders."""

    path: Path
    keep: str = ASK_AGAIN
    names: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file with its headers, plain and compressed."""

    plain: bytes
    gzipped: bytes
    headers: Mapping[str, str]

    def answer(self, asked: Headers) -> Response:
        """The file, or a 304 where the browser has it already."""
        etag = self.headers["etag"]
        if etag in (part.strip() for part in asked.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=self.headers)
        if "gzip" not in asked.get("accept-encoding", ""):
            return Response(self.plain, headers=self.headers)
        return Response(self.gzipped, headers={**self.headers, "content-encoding": "gzip"})


class StaticFiles:
    """Files by name."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._packed: dict[str, StaticFile] = {}

    async def take(self, name: str) -> StaticFile | None:
        """The file of that name, if there is one; read and compressed in a thread."""
        if name not in self._packed and name in self._sources:
            self._packed[name] = await anyio.to_thread.run_sync(pack, self._sources[name])
        return self._packed.get(name)


def pack(source: Source) -> StaticFile:
    """Reads and compresses a file, and adds its headers."""
    plain = source.path.read_bytes()
    for name, value in (source.names or {}).items():
        plain = plain.replace(b"{{%b}}" % name.encode(), value.encode())
    digest = hashlib.sha256(plain).hexdigest()[:32]
    headers = {
        "content-type": MEDIA_TYPES[source.path.suffix],
        "cache-control": source.keep,
        "etag": f'W/"{digest}"',
        "vary": "accept-encoding",
        **SECURITY_HEADERS,
    }
    return StaticFile(plain, gzip.compress(plain, 6, mtime=0), headers)


def package_folder(package: str) -> Path:
    """The folder of an installed package; it is not imported, which would cost time and memory."""
    spec = find_spec(package)
    assert spec is not None, f"{package} is a dependency"
    assert spec.submodule_search_locations is not None, f"{package} is a package"
    return Path(spec.submodule_search_locations[0])


def from_package(package: str, distribution: str, files: Mapping[str, str]) -> dict[str, Source]:
    """Files of an installed package, under names that hold its version."""
    folder, release = package_folder(package), version(distribution)
    return {
        f"lib/{package}-{release}/{name}": Source(folder / path, FOR_GOOD)
        for name, path in files.items()
    }
