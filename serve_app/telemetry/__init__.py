"""What is measured, logged and traced.

Every metric is named in ``metrics``; ``request_metrics.RequestMetrics`` and
``runner_metrics.MeteredCall`` count, ``flusher.Flusher`` hands the counts to Ray once a second, and
``scrape`` gathers them for ``GET /metrics``.
"""
