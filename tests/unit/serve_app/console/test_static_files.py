import gzip
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from serve_app.console.pages import (
    FOR_GOOD,
    POLICY,
    Source,
    StaticFile,
    StaticFiles,
    from_package,
    pack,
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text("<p>{{name}} and {{other}}</p>", "utf-8")
    return path


def headers(**values: str) -> Headers:
    return Headers({name.replace("_", "-"): value for name, value in values.items()})


def test_names_are_put_into_a_page(page: Path) -> None:
    packed = pack(Source(page, names={"name": "v1/name.js"}))

    assert packed.plain == b"<p>v1/name.js and {{other}}</p>"


def test_file_is_packed_for_those_who_take_it_packed(page: Path) -> None:
    packed = pack(Source(page))
    small = packed.answer(headers(accept_encoding="br, gzip"))
    plain = packed.answer(headers())

    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(small.body)) == bytes(plain.body) == packed.plain
    assert "content-encoding" not in plain.headers
    assert small.headers["vary"] == plain.headers["vary"] == "accept-encoding"


def test_browser_that_has_the_file_gets_no_body(page: Path) -> None:
    packed = pack(Source(page))
    etag = packed.headers["etag"]

    for given in (etag, f'"other", {etag}'):
        again = packed.answer(headers(if_none_match=given))

        assert (again.status_code, bytes(again.body)) == (304, b"")
        assert again.headers["etag"] == etag
    assert packed.answer(headers(if_none_match='"other"')).status_code == 200


def test_etag_changes_with_the_content(page: Path) -> None:
    before = pack(Source(page)).headers["etag"]
    page.write_text("other", "utf-8")

    assert pack(Source(page)).headers["etag"] != before


def test_nothing_may_run_but_our_own_files(page: Path) -> None:
    packed = pack(Source(page))

    assert packed.headers["content-security-policy"] == POLICY
    assert packed.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


@pytest.mark.parametrize("name", ["page", "../page.html", "/etc/hosts", "", "page.html/"])
async def test_only_names_of_the_table_lead_to_files(page: Path, name: str) -> None:
    shelf = StaticFiles({"page.html": Source(page)})

    assert await shelf.take(name) is None


async def test_file_is_read_once(page: Path) -> None:
    shelf = StaticFiles({"page.html": Source(page)})
    first = await shelf.take("page.html")
    page.unlink()  # noqa: ASYNC240 - a small file of this test

    assert isinstance(first, StaticFile)
    assert await shelf.take("page.html") is first


def test_name_of_a_packages_file_holds_its_version() -> None:
    sources = from_package("plotly", "plotly", {"p.js": "package_data/plotly.min.js"})
    ((name, source),) = sources.items()

    assert name.startswith("lib/plotly-")
    assert name.endswith("/p.js")
    assert source.path.is_file()
    assert source.keep == FOR_GOOD
