"""Access tokens and rate limits.

``access.AccessControl`` puts an access check in front of each route; ``rate_limit`` limits the cost
of a caller's requests. ``new_token`` is a command that makes a token.
"""
