"""The HTTP service: Ray Serve deployments and the Starlette application around `runner`.

Import paths that Serve configurations name: ``app:build``, ``scaling:by_items`` and
``embedded_runtime:build``. Each folder answers one question: docs/architecture.md.
"""
