"""Routes of the web pages and of the files they load.

The files are a fixed table of names, each read and compressed once, when first requested. No part
of a request becomes a file path, so only files of the table can be read.
"""

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
PAGES: Mapping[str, str] = {"/": "index.html", "/docs": "docs.html"}
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


def page_routes(gate: Callable[[str], list[Middleware]]) -> list[Route]:
    """A route for every page, and one for the files; ``gate`` gives the access check of a path."""
    files = sources()
    packed = cache(lambda name: pack(files[name]))

    def endpoint(page: str | None) -> Callable[[Request], Awaitable[Response]]:
        async def show(request: Request) -> Response:
            name = page or request.path_params["name"]
            if name not in files:
                raise HTTPException(404)
            found = await anyio.to_thread.run_sync(packed, name)  # the first time it is read
            return found.answer(request.headers)

        return show

    paths: dict[str, str | None] = {**PAGES, "/console/{name:path}": None}
    return [  # not in the OpenAPI document, which describes the API for programs
        Route(path, endpoint(page), middleware=gate(path), include_in_schema=False)
        for path, page in paths.items()
    ]


def sources() -> dict[str, "Source"]:
    """Every file that is served, by its name in the URL."""
    swagger = {name: f"dist/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css")}
    libraries = {
        **from_package("plotly", "plotly", {"plotly.min.js": "package_data/plotly.min.js"}),
        **from_package("flask_swagger_ui", "flask-swagger-ui", swagger),
    }
    names = {name.rsplit("/", 1)[-1]: f"console/{name}" for name in libraries}
    ours = {
        path.name: Source(path, names=names if path.suffix == ".html" else None)
        for path in STATIC.iterdir()
    }
    return ours | libraries


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


def from_package(package: str, name: str, files: Mapping[str, str]) -> dict[str, Source]:
    """Files of an installed package, under names that hold its version; it is not imported."""
    installed = distribution(name)
    return {
        f"lib/{package}-{installed.version}/{file}": Source(
            Path(str(installed.locate_file(f"{package}/{path}"))), FOR_GOOD
        )
        for file, path in files.items()
    }
