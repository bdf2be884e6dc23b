"""API tokens, of which only the SHA-256 is kept, and the rate limit of each caller.

A plain digest is enough because tokens are long and random: they cannot be guessed, so a slow hash
would add nothing. Short tokens are refused in requests.
"""

from collections.abc import Iterable
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Self

from pydantic import Field, model_validator

from runner.config.sections import Count, Positive, Section

MIN_TOKEN_CHARS = 32
MAX_TOKENS = 64  # each token in a request is compared with all of them
PLACEHOLDERS = (
    *("", "changeme", "change-me", "change_me", "secret", "token", "password", "passwort", "admin"),
    *("test", "demo", "dev", "example", "default", "placeholder", "todo", "xxx", "none", "null"),
    *("bearer", "api-key", "apikey", "api_key", "your-token", "your-token-here", "<token>"),
)


class TokenScope(StrEnum):
    """What a token allows."""

    FORECAST = "forecast"
    BATCH = "batch"
    OUTCOMES = "outcomes"
    ADMIN = "admin"
    METRICS = "metrics"


class TokenEntry(Section):
    """One accepted token. Entries of one name are one caller, so that tokens can be rotated."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[TokenScope, ...], Field(min_length=1)]


class SecuritySection(Section):
    """Tokens and rate limits; without any token every caller is allowed."""

    require_tokens: bool
    """Refuse to start without tokens; must be true where `environment` is `prod`."""
    tokens: Annotated[tuple[TokenEntry, ...], Field(max_length=MAX_TOKENS)]
    """Name, SHA-256 and scopes of each accepted token; see security.md."""
    burst_steps: Count
    """Series-steps that a caller may request at once from each ingress replica; N replicas allow N
    times as many."""
    refill_steps_per_s: Positive
    """How many series-steps a caller gets back in a second, in each ingress replica."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.require_tokens and not self.tokens:
            raise ValueError(
                "require_tokens is true and tokens is empty; make one with "
                "`python -m serve_app.auth.new_token` and set TSFM_SECURITY__TOKENS"
            )
        if len({entry.sha256 for entry in self.tokens}) < len(self.tokens):
            raise ValueError("tokens: the same sha256 is listed twice")
        if known := sorted(_placeholders(self.tokens)):
            raise ValueError(f"tokens: {', '.join(known)} hashes a placeholder; make a real token")
        return self


def digest_of(token: bytes) -> bytes:
    """The SHA-256 of a token: what is kept, and compared with the token of a request."""
    return sha256(token).digest()


def _placeholders(entries: Iterable[TokenEntry]) -> set[str]:
    """Names of the entries whose token is a common placeholder, with or without a line end."""
    spellings = (form for word in PLACEHOLDERS for form in (word, word.upper(), word.title()))
    refused = {digest_of(f"{s}{end}".encode()).hex() for s in spellings for end in ("", "\n")}
    return {entry.name for entry in entries if entry.sha256 in refused}
