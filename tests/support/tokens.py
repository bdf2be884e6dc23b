"""API tokens for tests, and a configuration that knows them."""

from hashlib import sha256
from typing import Any

from runner.config.loading import Config
from runner.config.security import TokenEntry, TokenScope
from tests.support.builders import make_config

ALERTS = "alerts-token-0123456789-0123456789-abcdef"
ALERTS_NEXT = "alerts-token-after-the-rotation-0123456789"
CYCLE = "cycle-token-0123456789-0123456789-abcdefg"
OPERATOR = "operator-token-0123456789-0123456789-abcd"


def entry(name: str, token: str, *scopes: TokenScope) -> TokenEntry:
    return TokenEntry(name=name, sha256=sha256(token.encode()).hexdigest(), scopes=scopes)


TOKENS = (
    entry("alerts", ALERTS, TokenScope.FORECAST),
    entry("alerts", ALERTS_NEXT, TokenScope.FORECAST),
    entry("cycle", CYCLE, TokenScope.BATCH),
    entry("operator", OPERATOR, TokenScope.ADMIN, TokenScope.METRICS),
)


def make_guarded_config(**security: Any) -> Config:
    """The local configuration with the tokens above, and an allowance that is soon used up."""
    allowance = {"burst_steps": 1000, "refill_steps_per_s": 10.0}
    return make_config(security={"tokens": TOKENS} | allowance | security)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
