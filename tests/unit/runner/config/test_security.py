from hashlib import sha256
from typing import Any

import pytest
from pydantic import ValidationError

from runner.config.security import SecuritySection


def token_entry(token: str = "t" * 40, **changes: Any) -> dict[str, object]:
    digest = sha256(token.encode()).hexdigest()
    return {"name": "alerts", "sha256": digest, "scopes": ["forecast"]} | changes


def make_section(*entries: dict[str, object], require_tokens: bool = False) -> SecuritySection:
    return SecuritySection.model_validate(
        {
            "require_tokens": require_tokens,
            "tokens": entries,
            "burst_steps": 10,
            "refill_steps_per_s": 1.0,
        }
    )


PLACEHOLDERS = ("changeme", "secret", "CHANGEME", "Secret", "", "password\n", "<token>")


@pytest.mark.parametrize(
    ("entries", "require_tokens", "words"),
    [
        ([], True, "TSFM_SECURITY__TOKENS"),
        ([token_entry(), token_entry(name="other")], False, "listed twice"),
        *(([token_entry(word)], False, "alerts hashes a placeholder") for word in PLACEHOLDERS),
    ],
)
def test_missing_equal_and_placeholder_tokens_are_refused(
    entries: list[dict[str, object]], require_tokens: bool, words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make_section(*entries, require_tokens=require_tokens)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Has Space"},
        {"sha256": "A" * 64},
        {"scopes": []},
        {"scopes": ["everything"]},
    ],
)
def test_invalid_entry_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_section(token_entry(**changes))
