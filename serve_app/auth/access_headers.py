"""What refusals by the gate say in headers: how to come in, and when there is allowance again."""

from runner.errors import InsufficientScopeError, RateLimitedError, UnauthorizedError
from serve_app.auth.rate_limit import rate_limit_headers

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
