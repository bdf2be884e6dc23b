"""Makes an API token: prints it once, and the entry that stands for it in the configuration."""

import argparse
import json
import secrets
import sys
from collections.abc import Sequence

from runner.config.security import TokenEntry, TokenScope, digest_of


def new_token(name: str, scopes: Sequence[TokenScope]) -> tuple[str, TokenEntry]:
    """A random token of 256 bits, and its configuration entry.

    Raises:
        ValidationError: the name is not a valid one.
    """
    token = secrets.token_urlsafe(32)
    digest = digest_of(token.encode()).hex()
    return token, TokenEntry(name=name, sha256=digest, scopes=tuple(scopes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code for the shell."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.auth.new_token", description=__doc__)
    parser.add_argument("name", help="who uses it: lower-case letters, digits, dots, dashes")
    parser.add_argument(
        "scopes", nargs="+", type=TokenScope, metavar="scope", help=", ".join(TokenScope)
    )
    given = parser.parse_args(arguments)
    try:
        token, entry = new_token(given.name, given.scopes)
    except ValueError:
        parser.error(f"{given.name!r} is no name: use lower-case letters, digits, dots and dashes")
    line = json.dumps([entry.model_dump(mode="json")], separators=(",", ":"))
    sys.stdout.write(f"token (shown once, for the caller): {token}\n")
    sys.stdout.write(f"entry (for the service):            TSFM_SECURITY__TOKENS='{line}'\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
