"""What a watch counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from serve_app.watch.cycle import Outcome


class WatchMetrics:
    """The metrics of one watch."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._cycles = Counter(
            "tsfm_watch_cycles",
            "Cycles, by whether they gave a result.",
            ["result"],
            registry=registry,
        )
        self._seconds = Histogram(
            "tsfm_watch_cycle_seconds",
            "Duration of a cycle.",
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60),
            registry=registry,
        )
        self._alerts = Counter(
            "tsfm_watch_alerts", "Alerts, by severity.", ["severity"], registry=registry
        )
        self._markets = Gauge(
            "tsfm_watch_markets", "Markets of the last cycle.", ["state"], registry=registry
        )

    def count(self, took_s: float, outcome: Outcome | None) -> None:
        """Counts a cycle."""
        self._seconds.observe(took_s)
        self._cycles.labels("failed" if outcome is None else "ok").inc()
        if outcome is None:
            return
        self._markets.labels("checked").set(len(outcome.checks))
        self._markets.labels("skipped").set(len(outcome.skipped))
        for alert in outcome.alerts:
            self._alerts.labels(alert.severity).inc()

    def serve(self, port: int) -> None:
        """Answers Prometheus on this port of the loopback interface; OSError if it is taken."""
        start_http_server(port, addr="127.0.0.1", registry=self.registry)
