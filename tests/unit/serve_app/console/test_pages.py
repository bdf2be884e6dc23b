"""What the pages consist of: every file they name is there, and their words are the service's."""

import re
from pathlib import Path

import pytest

from runner.forecast.answers import WARNINGS
from runner.types import BreakerState, FallbackReason
from serve_app.console.pages import (
    FOR_GOOD,
    PAGES,
    POLICY,
    STATIC,
    from_package,
)
from tests.support.bench import Bench
from tests.support.openapi import DOCUMENT

SCRIPTS = sorted(STATIC.glob("*.js"))
WORDS = (STATIC / "words.js").read_text("utf-8")


@pytest.mark.parametrize("path", PAGES)
async def test_every_file_a_page_names_is_served(bench: Bench, path: str) -> None:
    page = await bench.http.get(path)
    links = re.findall(r' (?:src|href)="([^"#][^"]*)"', page.text)
    answers = {link: (await bench.http.get(f"/{link}")).status_code for link in links}

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert len(links) > 3
    assert answers == dict.fromkeys(links, 200)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_import_of_a_script_exists(script: Path) -> None:
    text = script.read_text("utf-8")
    imported = re.findall(r'from "\./([^"]+)"', text)

    assert {name for name in imported if not (STATIC / name).is_file()} == set()
    assert "innerHTML" not in text  # text of an answer is never read as markup
    assert "eval(" not in text


def test_ids_in_scripts_are_on_a_page() -> None:
    text = "".join((STATIC / name).read_text("utf-8") for name in PAGES.values())
    requested = {
        found
        for path in SCRIPTS
        for found in re.findall(r'byId\("([^"]+)"\)', path.read_text("utf-8"))
    }

    assert {name for name in requested if f'id="{name}"' not in text} == set()


def test_every_reason_warning_and_breaker_state_has_words() -> None:
    known = {*FallbackReason, *BreakerState}
    known |= {code for code in WARNINGS if not code.startswith("fallback_")}

    assert {
        code for code in known if not re.search(rf"^  {code}: \"", WORDS, re.MULTILINE)
    } == set()


def test_every_field_of_a_request_has_a_place_for_its_errors() -> None:
    text = (STATIC / "index.html").read_text("utf-8")
    placed = {one for paths in re.findall(r'data-paths="([^"]+)"', text) for one in paths.split()}
    fields = set(DOCUMENT["components"]["schemas"]["ForecastRequest"]["properties"])

    # the console sends none of these, except a check box, which cannot be wrong
    sent_by_programs = {"conformal", "bands", "observe", "newest_steps", "thresholds", "closes_at"}
    assert fields - placed == sent_by_programs


@pytest.mark.parametrize(
    "name", ["nothing.js", "", "index", "index.html/", "..%2Fpages.py", "%2Fetc%2Fhosts"]
)
async def test_name_outside_the_table_is_answered_like_any_wrong_path(
    bench: Bench, name: str
) -> None:
    response = await bench.http.get(f"/console/{name}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


async def test_file_is_compressed_where_the_browser_accepts_it(bench: Bench) -> None:
    path = "/console/words.js"
    small = await bench.http.get(path, headers={"accept-encoding": "br, gzip"})
    plain = await bench.http.get(path, headers={"accept-encoding": "identity"})

    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert small.text == plain.text == WORDS
    assert small.headers["vary"] == plain.headers["vary"] == "accept-encoding"


async def test_unchanged_file_is_answered_without_a_body(bench: Bench) -> None:
    etag = (await bench.http.get("/")).headers["etag"]
    other = (await bench.http.get("/docs")).headers["etag"]

    for given, status in ((etag, 304), (f'"other", {etag}', 304), (other, 200)):
        answer = await bench.http.get("/", headers={"if-none-match": given})
        assert answer.status_code == status
        assert (answer.content == b"") is (status == 304)
        assert answer.headers["etag"] == etag


async def test_only_our_own_files_may_run(bench: Bench) -> None:
    headers = (await bench.http.get("/")).headers

    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY
    assert "http" not in POLICY


def test_name_of_a_file_of_a_package_has_its_version() -> None:
    sources = from_package("plotly", "plotly", {"p.js": "package_data/plotly.min.js"})
    ((name, source),) = sources.items()

    assert name.startswith("lib/plotly-")
    assert name.endswith("/p.js")
    assert source.path.is_file()
    assert source.keep == FOR_GOOD


def test_page_keeps_as_many_values_of_a_file_as_a_request_may_have() -> None:
    text = (STATIC / "series.js").read_text("utf-8")
    most = DOCUMENT["components"]["schemas"]["ForecastRequest"]["properties"]["y"]["maxItems"]

    assert f"MOST_VALUES = {most};" in text
