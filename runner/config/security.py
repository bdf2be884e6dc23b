"""Who may call: API tokens, of which only the SHA-256 is ever kept, and how much each may ask.

A plain digest is enough because tokens are long and random: there is nothing to guess, so nothing
for a slow hash to slow down. Short ones are not accepted when they are presented.
"""

from collections.abc import Iterable
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Self

from pydantic import Field, model_validator

from runner.config.section import Count, Positive, Section

MIN_TOKEN_CHARS = 32
MAX_TOKENS = 64  # every one of them is compared with every token presented
PLACEHOLDERS = (
    *("", "changeme", "change-me", "change_me", "secret", "token", "password", "passwort", "admin"),
    *("test", "demo", "dev", "example", "default", "placeholder", "todo", "xxx", "none", "null"),
    *("bearer", "api-key", "apikey", "api_key", "your-token", "your-token-here", "<token>"),
)


class TokenScope(StrEnum):
    """What a token is good for."""

    FORECAST = "forecast"
    BATCH = "batch"
    OUTCOMES = "outcomes"
    ADMIN = "admin"
    METRICS = "metrics"


class TokenEntry(Section):
    """One accepted token. Entries of one name are one caller: that is how tokens are rotated."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[TokenScope, ...], Field(min_length=1)]


class SecuritySection(Section):
    """Tokens and what each may ask for; without any token everybody may call."""

    require_tokens: bool
    """Refuse to start without tokens; must be true where `environment` is `prod`."""
    tokens: Annotated[tuple[TokenEntry, ...], Field(max_length=MAX_TOKENS)]
    """Who may call: name, SHA-256 and scopes of each token; see security.md."""
    burst_steps: Count
    """Series-steps that a caller may ask for at once, of each ingress replica: N grant N times."""
    refill_steps_per_s: Positive
    """How many series-steps a caller gets back in a second, in each ingress replica."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.require_tokens and not self.tokens:
            raise ValueError(
                "require_tokens is true and tokens is empty; make one with "
                "`python -m serve_app.auth.new_token` and set TSFM_SECURITY__TOKENS"
            )
        digests = [entry.sha256 for entry in self.tokens]
        if len(set(digests)) < len(digests):
            raise ValueError("tokens: the same sha256 stands twice")
        if known := sorted(_placeholders(self.tokens)):
            raise ValueError(f"tokens: {', '.join(known)} hashes a placeholder; make a real token")
        return self


def digest_of(token: bytes) -> bytes:
    """What is kept of a token, and what a presented one is compared by."""
    return sha256(token).digest()


def _placeholders(entries: Iterable[TokenEntry]) -> set[str]:
    """Names of the entries whose token anybody would try first, with or without a line end."""
    spellings = (form for word in PLACEHOLDERS for form in (word, word.upper(), word.title()))
    refused = {digest_of(f"{s}{end}".encode()).hex() for s in spellings for end in ("", "\n")}
    return {entry.name for entry in entries if entry.sha256 in refused}
