"""Calls between processes: Serve handles, and the two actors with their clients.

``clients`` calls the Runner and the Baseline from an Ingress; items of about the same time share a
call. ``breaker_client`` and ``learning_client`` synchronise a replica with their actors.
"""
