"""Metrics, logs and traces.

Every metric is named in ``metrics``; ``request_metrics.RequestMetrics`` and
``runner_metrics.MeteredCall`` count, ``flusher.Flusher`` sends the counts to Ray once a second, and
``scrape`` gathers them for ``GET /metrics``.
"""
