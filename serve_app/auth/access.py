"""Access control: the table of routes and scopes, and the access check in front of each route.

Without configured tokens nothing is checked. With tokens every route is checked, except those
marked as open; a route that is missing from the table cannot be built. `access_headers` are the
headers of refusals: how to authenticate, and when the rate limit admits requests again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hmac import compare_digest

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.config.security import MIN_TOKEN_CHARS, SecuritySection, TokenScope, digest_of
from runner.errors import InsufficientScopeError, RateLimitedError, UnauthorizedError
from serve_app.auth.rate_limit import SCOPE_KEY, RateLimit, rate_limit_headers

Scopes = frozenset[TokenScope]

OPEN: Scopes = frozenset()
ANY: Scopes = frozenset(TokenScope)
# Any one of these opens the route.
NEEDS: Mapping[str, Scopes] = {
    "/tsfm/forecast": frozenset({TokenScope.FORECAST}),
    "/tsfm/forecast/batch": frozenset({TokenScope.BATCH}),
    "/tsfm/check": frozenset({TokenScope.FORECAST}),
    "/tsfm/check/batch": frozenset({TokenScope.BATCH}),
    "/tsfm/outcomes": frozenset({TokenScope.OUTCOMES}),
    "/tsfm/board": ANY,
    "/tsfm/board/{watch}": frozenset({TokenScope.BATCH}),  # a watch needs this scope anyway
    "/tsfm/models": ANY,
    "/tsfm/skill": ANY,
    "/tsfm/status": ANY,
    "/tsfm/admin/breakers/{model}": frozenset({TokenScope.ADMIN}),
    "/metrics": frozenset({TokenScope.METRICS}),
    "/openapi.json": ANY,
    "/": OPEN,  # pages hold no data; they request it from the API with a token
    "/docs": OPEN,
    "/console/{name:path}": OPEN,
    "/healthz": OPEN,  # probes carry no token
    "/readyz": OPEN,
}


@dataclass(frozen=True, slots=True)
class _Token:
    digest: bytes
    scopes: Scopes
    rate_limit: RateLimit


class AccessControl:
    """The accepted tokens; tokens with the same name share a rate limit."""

    def __init__(self, settings: SecuritySection, clock: Callable[[], float]) -> None:
        names = {entry.name for entry in settings.tokens}
        rate_limits = {name: RateLimit(settings, clock) for name in names}
        self._tokens = [
            _Token(bytes.fromhex(e.sha256), frozenset(e.scopes), rate_limits[e.name])
            for e in settings.tokens
        ]

    def gate(self, path: str) -> list[Middleware]:
        """The middleware of a route: its access check, or nothing."""
        needs = NEEDS[path]
        return [Middleware(_checked, self, needs)] if self._tokens and needs else []

    def admit(self, scope: Scope, needs: Scopes) -> RateLimit:
        """The rate limit of the caller of this request.

        Raises:
            UnauthorizedError: there is no token, or it is not an accepted one.
            InsufficientScopeError: the token has none of the scopes that this route needs.
        """
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, secret = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer":
            raise UnauthorizedError(presented=bool(given))
        token = self._find(secret)
        if token is None or len(secret) < MIN_TOKEN_CHARS:
            raise UnauthorizedError(presented=True)
        if not token.scopes & needs:
            raise InsufficientScopeError(tuple(sorted(needs)))
        return token.rate_limit

    def _find(self, secret: bytes) -> _Token | None:
        """The token with this digest; all are compared, each in constant time."""
        digest, found = digest_of(secret), None
        for token in self._tokens:
            if compare_digest(token.digest, digest):
                found = token
        return found


def _checked(app: ASGIApp, access: AccessControl, needs: Scopes) -> ASGIApp:
    """Checks access before a route, and adds the caller's rate limit headers to the answer."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        rate_limit = scope[SCOPE_KEY] = access.admit(scope, needs)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *rate_limit.headers()]
            await send(message)

        await app(scope, receive, send_with_headers)

    return checked


_REALM = 'Bearer realm="tsfm"'


def access_headers(error: Exception) -> dict[str, str]:
    """The headers of a refusal; none for any other error.

    >>> access_headers(UnauthorizedError(presented=False))
    {'www-authenticate': 'Bearer realm="tsfm"'}
    """
    match error:
        case UnauthorizedError():
            wrong = ', error="invalid_token"' if error.presented else ""
            return {"www-authenticate": _REALM + wrong}
        case InsufficientScopeError():
            scopes = " ".join(error.scopes)
            challenge = f'{_REALM}, error="insufficient_scope", scope="{scopes}"'
            return {"www-authenticate": challenge}
        case RateLimitedError():
            burst, refill = error.burst_steps, error.refill_steps_per_s
            raw = rate_limit_headers(burst, refill, error.retry_after_s + burst / refill)
            return {name.decode(): value.decode() for name, value in raw}
    return {}
