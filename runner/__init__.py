"""Forecasting decisions and the adapter to tollama; imports no web server and no Ray.

Each folder answers one question: docs/architecture.md. ``types``, ``errors``, ``bands``,
``answer_cache`` and ``pacer`` are used by several of them.
"""
