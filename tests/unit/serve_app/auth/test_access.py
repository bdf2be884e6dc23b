import pytest

from runner.config.security import TokenScope
from serve_app.auth.access import NEEDS, AccessControl
from tests.support.bench import EXAMPLE, Bench
from tests.support.builders import ROOT
from tests.support.fakes import FakeClock
from tests.support.tokens import (
    ALERTS,
    ALERTS_NEXT,
    CYCLE,
    bearer,
    entry,
    make_guarded_config,
)


async def test_request_without_a_token_is_refused_with_the_challenge(guarded: Bench) -> None:
    response = await guarded.post(EXAMPLE)

    assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer realm="tsfm"'
    assert "Authorization: Bearer" in response.json()["error"]["message"]
    assert guarded.model.requests == []


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {ALERTS}x",
        f"Bearer {ALERTS[:-1]}",
        f"Bearer  {ALERTS}",
        f"Basic {ALERTS}",
        ALERTS,
        "Bearer",
        "Bearer ",
        "",
    ],
)
async def test_wrong_token_is_refused_and_not_repeated(guarded: Bench, header: str) -> None:
    response = await guarded.post(EXAMPLE, Authorization=header)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="tsfm", error="invalid_token"'
    assert ALERTS[:-1] not in response.text


async def test_two_tokens_at_once_are_none(guarded: Bench) -> None:
    headers = [("Authorization", f"Bearer {ALERTS}"), ("Authorization", f"Bearer {CYCLE}")]
    response = await guarded.http.post("/tsfm/forecast", content=EXAMPLE, headers=headers)

    assert response.status_code == 401


async def test_short_token_is_refused_even_when_its_digest_is_configured() -> None:
    short = "x" * 31
    bench = Bench(make_guarded_config(tokens=(entry("lazy", short, TokenScope.FORECAST),)))
    response = await bench.post(EXAMPLE, **bearer(short))

    assert response.status_code == 401


@pytest.mark.parametrize("token", [ALERTS, ALERTS_NEXT])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_both_tokens_of_a_rotation_are_accepted(
    guarded: Bench, token: str, scheme: str
) -> None:
    response = await guarded.post(EXAMPLE, Authorization=f"{scheme} {token}")

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("path", "token", "scope"),
    [
        ("/tsfm/forecast", CYCLE, "forecast"),
        ("/tsfm/forecast/batch", ALERTS, "batch"),
        ("/tsfm/admin/breakers/mock", ALERTS, "admin"),
    ],
)
async def test_token_without_the_scope_is_refused_with_the_scope(
    guarded: Bench, path: str, token: str, scope: str
) -> None:
    response = await guarded.http.post(path, content=EXAMPLE, headers=bearer(token))

    assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope")
    assert response.headers["www-authenticate"] == (
        f'Bearer realm="tsfm", error="insufficient_scope", scope="{scope}"'
    )


PAGES = {"/", "/docs", "/console/{name:path}"}  # without their data
METHODS = ("GET", "POST", "PUT")
OPEN = PAGES | {"/healthz", "/readyz"}


async def test_every_other_route_stands_behind_the_gate(guarded: Bench) -> None:
    for path in {getattr(route, "path", "") for route in guarded.app.routes}:
        statuses = {(await guarded.http.request(m, path)).status_code for m in METHODS}
        assert (401 in statuses) is (path not in OPEN), path


@pytest.mark.parametrize("path", NEEDS)
def test_document_says_what_each_route_needs(path: str) -> None:
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    line = next(line for line in text.splitlines() if f" {path}`" in line)

    needs = NEEDS[path]
    word = "open" if not needs else "any" if needs == set(TokenScope) else f"`{min(needs)}`"
    assert word in line.split("|")[2]


def test_route_that_the_table_does_not_name_cannot_be_built() -> None:
    access = AccessControl(make_guarded_config().security, FakeClock())

    with pytest.raises(KeyError, match="/tsfm/new"):
        access.gate("/tsfm/new")
