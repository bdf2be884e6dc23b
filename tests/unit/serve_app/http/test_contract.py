"""Released versions of the interface against the one of today: neither may surprise the other.

``tests/data/contract`` holds the document of each release. What its examples ask is asked of the
service of today, what that answers is read as the release's callers read it, and the other way
round. A change that breaks one of these needs a new path or a new field, not a new snapshot;
`make contract` writes that of the version that is next.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jsonpatch
import orjson
import pytest
from jsonschema import Draft202012Validator

from tests.contract import RELEASES, of_answers, of_requests
from tests.support.bench import Bench
from tests.support.builders import make_answer, make_bands
from tests.support.openapi import DOCUMENT
from tsfm_client import Forecast

FILES = sorted(RELEASES.glob("*.json"))
Document = dict[str, Any]
Compare = Callable[[Document, Document], Iterator[str]]
JSON = "application/json"


@pytest.fixture(params=[*FILES, None], ids=lambda file: file.stem if file else "today")
def release(request: pytest.FixtureRequest) -> Document:
    """A document that callers have: of each release, and of what will be the next one."""
    document: Document = orjson.loads(request.param.read_bytes()) if request.param else DOCUMENT
    return document


def bodies(release: Document) -> Iterator[tuple[str, str, Document, Any]]:
    """Path, method, operation and body of every example of a request."""
    for path, item in release["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
            for example in content.get("examples", {}).values():
                yield path, method, operation, example["value"]


def answers(release: Document) -> Iterator[Any]:
    """Every example of a forecast."""
    content = release["paths"]["/tsfm/forecast"]["post"]["responses"]["200"]["content"][JSON]
    yield from (example["value"] for example in content["examples"].values())


def test_there_is_a_released_document() -> None:
    assert FILES


def test_requests_of_a_release_are_still_taken(release: Document) -> None:
    assert list(of_requests(release, DOCUMENT)) == []


def test_answers_have_all_that_callers_of_a_release_expect(release: Document) -> None:
    assert list(of_answers(release, DOCUMENT)) == []


async def test_requests_of_a_release_get_answers_that_its_callers_can_read(
    release: Document, bench: Bench
) -> None:
    bench.model.outcome = lambda r: make_answer(
        bands=make_bands(r.key.horizon_steps, len(r.key.levels))
    )
    for path, method, operation, body in bodies(release):
        named = path.replace("{model}", "mock").replace("{watch}", "mock")
        response = await bench.http.request(method, named, json=body)
        schema = operation["responses"]["200"]["content"][JSON]["schema"]
        whole = {**schema, "components": release["components"]}

        assert response.status_code == 200, response.text
        assert '"error"' not in response.text
        assert [e.message for e in Draft202012Validator(whole).iter_errors(response.json())] == []


def test_answers_of_a_release_can_be_read_by_the_client_of_today(release: Document) -> None:
    for answer in answers(release):
        read = Forecast(answer)

        assert read.paths.shape == (answer["horizon_steps"], len(answer["quantiles"]))
        assert read.meta.fallback_used is answer["meta"]["fallback_used"]


SCHEMAS = "/components/schemas"
REQUEST = f"{SCHEMAS}/ForecastRequest"
FIELDS = f"{REQUEST}/properties"
META = f"{SCHEMAS}/AnswerMeta"


def changed(*patches: tuple[Any, ...]) -> Document:
    """The document of today after RFC 6902 operations: what to do, where, and the value."""
    steps = [dict(zip(("op", "path", "value"), patch, strict=False)) for patch in patches]
    document: Document = jsonpatch.apply_patch(DOCUMENT, steps)
    return document


@pytest.mark.parametrize(
    ("compare", "patch", "words"),
    [
        (of_requests, ("remove", f"{FIELDS}/deadline_ms"), "deadline_ms: is not known"),
        (of_requests, ("add", f"{REQUEST}/required/-", "freq"), "freq: may be missing"),
        (of_requests, ("replace", f"{FIELDS}/market_id/maxLength", 3), "market_id: maxLength"),
        (of_requests, ("remove", "/paths/~1tsfm~1outcomes"), "POST /tsfm/outcomes: is gone"),
        (of_answers, ("replace", f"{META}/properties/cache_hit/type", "string"), "is not boolean"),
        (of_answers, ("add", f"{SCHEMAS}/BreakerState/enum/-", "ajar"), "not known: ['ajar']"),
        (of_answers, ("replace", f"{META}/required", []), "meta.fallback_used: may be missing"),
    ],
)
def test_change_that_breaks_callers_of_a_release_is_found(
    compare: Compare, patch: tuple[Any, ...], words: str
) -> None:
    assert words in "; ".join(compare(DOCUMENT, changed(patch)))


def test_new_fields_reasons_and_paths_are_welcome_in_answers() -> None:
    new = changed(
        ("add", f"{SCHEMAS}/FallbackReason/enum/-", "moonlight"),
        ("add", f"{META}/properties/mood", {"type": "string"}),
        ("add", "/paths/~1tsfm~1mood", DOCUMENT["paths"]["/tsfm/status"]),
    )

    assert [*of_requests(DOCUMENT, new), *of_answers(DOCUMENT, new)] == []
