import gzip
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from serve_app.console.pages import (
    FOR_GOOD,
    POLICY,
    Source,
    StaticFiles,
    from_package,
    pack,
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text("<p>{{name}} and {{other}}</p>", "utf-8")
    return path


def test_file_is_compressed_where_the_browser_accepts_it(page: Path) -> None:
    packed = pack(Source(page))
    small = packed.answer(Headers({"accept-encoding": "br, gzip"}))
    plain = packed.answer(Headers())

    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(small.body)) == bytes(plain.body) == packed.plain
    assert "content-encoding" not in plain.headers
    assert small.headers["vary"] == plain.headers["vary"] == "accept-encoding"


def test_unchanged_file_is_answered_without_a_body(page: Path) -> None:
    packed = pack(Source(page))
    etag = packed.headers["etag"]
    page.write_text("other", "utf-8")
    changed = pack(Source(page)).headers["etag"]

    for given, status in ((etag, 304), (f'"other", {etag}', 304), ('"other"', 200), (changed, 200)):
        answer = packed.answer(Headers({"if-none-match": given}))
        assert answer.status_code == status
        assert (bytes(answer.body) == b"") is (status == 304)
        assert answer.headers["etag"] == etag


def test_only_our_own_files_may_run(page: Path) -> None:
    packed = pack(Source(page))

    assert packed.headers["content-security-policy"] == POLICY
    assert packed.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


async def test_only_names_of_the_table_lead_to_files_which_are_read_once(page: Path) -> None:
    files = StaticFiles({"page.html": Source(page)})
    first = await files.take("page.html")
    page.unlink()  # noqa: ASYNC240 - a small file of this test

    assert first is not None
    assert await files.take("page.html") is first
    for name in ("page", "../page.html", "/etc/hosts", "", "page.html/"):
        assert await files.take(name) is None


def test_name_of_a_file_of_a_package_has_its_version() -> None:
    sources = from_package("plotly", "plotly", {"p.js": "package_data/plotly.min.js"})
    ((name, source),) = sources.items()

    assert name.startswith("lib/plotly-")
    assert name.endswith("/p.js")
    assert source.path.is_file()
    assert source.keep == FOR_GOOD
