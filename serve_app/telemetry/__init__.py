"""Metrics, logs and traces.

Every metric is named in ``metrics``; ``request_metrics`` counts, ``recorder.Flusher`` sends the
counts to Ray once a second, and ``scrape`` gathers them for ``GET /metrics``.
"""
