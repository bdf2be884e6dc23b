"""Who may call, and how much.

``access.AccessControl`` puts a gate in front of each route; ``rate_limit`` counts what a caller
asks for. ``new_token`` is a command that makes a token.
"""
