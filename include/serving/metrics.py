"""What Prometheus reads: no metric has a label that a caller can choose freely."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one server, in a registry of its own: several servers may run in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.requests = Counter(
            "ragworks_requests_total", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "ragworks_request_seconds", "Seconds until the last byte", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.open = Gauge("ragworks_requests_open", "Requests that are being answered", registry=self.registry)
        self.calls = Gauge(
            "ragworks_calls_open", "Calls that run in a thread or wait for one", ["workers"], registry=self.registry
        )
        self.batches = Histogram(
            "ragworks_embedding_batch_texts", "Questions embedded in one call", buckets=SIZES, registry=self.registry
        )
        self.answers = Counter(
            "ragworks_questions_total", "Questions by collection, kind and what came of them",
            ["collection", "kind", "status"], registry=self.registry,
        )  # fmt: skip
        self.logged = Counter("ragworks_query_log_written_total", "Rows of the query log written", registry=self.registry)
        self.dropped = Counter("ragworks_query_log_dropped_total", "Rows of the query log lost", registry=self.registry)
        self.shadow = Counter(
            "ragworks_shadow_questions_total", "Questions sampled for the challenger, by what came of them", ["state"],
            registry=self.registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """As https://prometheus.io/docs/instrumenting/exposition_formats/ has it."""
        return generate_latest(self.registry)
