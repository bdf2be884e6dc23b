"""Routes of the web pages and of the files they load."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.console.static_files import Source, StaticFiles, from_package

STATIC = Path(__file__).parent / "static"
PAGES: Mapping[str, str] = {"/": "index.html", "/docs": "docs.html"}
FILES = "/console/{name:path}"
Endpoint = Callable[[Request], Any]


def page_routes(gate: Callable[[str], list[Middleware]]) -> list[Route]:
    """A route for every page, and one for the files; ``gate`` gives the access check of a path."""
    static_files = StaticFiles(sources())

    def page(name: str) -> Endpoint:
        async def show(request: Request) -> Response:
            return await _answer(static_files, name, request)

        return show

    async def file(request: Request) -> Response:
        return await _answer(static_files, request.path_params["name"], request)

    endpoints = {path: page(name) for path, name in PAGES.items()} | {FILES: file}
    return [  # not in the OpenAPI document, which describes the API for programs
        Route(path, endpoint, middleware=gate(path), include_in_schema=False)
        for path, endpoint in endpoints.items()
    ]


def sources() -> dict[str, Source]:
    """Every file that is served, by its name in the URL."""
    libraries = _libraries()
    names = {name.rsplit("/", 1)[-1]: f"console/{name}" for name in libraries}
    ours = {
        path.name: Source(path, names=names if path.suffix == ".html" else None)
        for path in STATIC.iterdir()
    }
    return ours | libraries


def _libraries() -> dict[str, Source]:
    swagger = {name: f"dist/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css")}
    return {
        **from_package("plotly", "plotly", {"plotly.min.js": "package_data/plotly.min.js"}),
        **from_package("flask_swagger_ui", "flask-swagger-ui", swagger),
    }


async def _answer(static_files: StaticFiles, name: str, request: Request) -> Response:
    found = await static_files.take(name)
    if found is None:
        raise HTTPException(404)
    return found.answer(request.headers)
