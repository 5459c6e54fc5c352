"""Prometheus metrics of the studies in the database, of requests and transactions, and of the process.

Each app has its own registry.
"""

__all__ = ["Metrics"]

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.dispatcher_health import DispatcherHealth
from service.event_streams import EventStreams
from studies.errors import StoreUnavailable
from studies.store import MetricsReader, MetricsSnapshot, Store
from studies.webhooks import AttemptOutcome

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TRANSACTION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FRESH_FOR_S = 1.0


class _DatabaseCollector(Collector):
    """Metrics from the last snapshot of the database; without an answer, only that it is down.

    The count of epochs falls when a lost trial starts again. Prometheus would take that for a restart of the
    counter, so the highest count so far is reported.
    """

    def __init__(self) -> None:
        self.standing: MetricsSnapshot | None = None
        self._epochs = 0

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        now = self.standing
        yield GaugeMetricFamily(
            "tangent_database_up", "Whether the database answered this scrape.", value=float(now is not None)
        )
        if now is None:
            return
        studies = GaugeMetricFamily("tangent_studies", "Studies by state.", labels=["state"])
        for study_state, count in now.studies.items():
            studies.add_metric([study_state.value], count)
        yield studies
        trials = GaugeMetricFamily(
            "tangent_trials", "Trials by state, of searches and confirmations.", labels=["state"]
        )
        for trial_state, count in now.trials.items():
            trials.add_metric([trial_state.value], count)
        yield trials
        yield GaugeMetricFamily(
            "tangent_trials_waiting", "Queued trials that wait at a rung.", value=now.waiting
        )
        yield GaugeMetricFamily(
            "tangent_packs_in_flight",
            "Packs in training, according to the last reports.",
            value=now.packs,
        )
        self._epochs = max(self._epochs, now.epochs)
        yield CounterMetricFamily("tangent_epochs", "Epochs of all trials.", value=self._epochs)
        yield CounterMetricFamily(
            "tangent_trial_retries", "Attempts at trials that were lost to a fault.", value=now.retries
        )
        yield GaugeMetricFamily(
            "tangent_queue_age_seconds",
            "How long the oldest queued study has waited; 0 if none waits.",
            value=now.queued_for_s or 0.0,
        )
        yield GaugeMetricFamily(
            "tangent_event_lag_seconds",
            "Longest time since the newest event of a running study; 0 if none runs.",
            value=now.silent_for_s or 0.0,
        )
        yield from _dispatchers(now)


def _dispatchers(now: MetricsSnapshot) -> Iterator[Metric]:
    moment = datetime.now(UTC)
    health = DispatcherHealth.of(now.dispatchers, now=moment)
    yield GaugeMetricFamily(
        "tangent_dispatchers_alive",
        "Dispatchers with a heartbeat in the last 30 seconds.",
        value=health.alive,
    )
    if health.seen_at is not None:
        age_s = max(0.0, (moment - health.seen_at).total_seconds())
        yield GaugeMetricFamily(
            "tangent_dispatcher_seen_seconds",
            "Seconds since the last heartbeat of any dispatcher; absent if there was none.",
            value=age_s,
        )


class Metrics:
    """The metrics of one service.

    Args:
        streams: its event streams.
        version: version of the service.
    """

    def __init__(self, streams: EventStreams, *, version: str) -> None:
        # By default each counter and histogram has a metric of its creation time: half of all lines, unused.
        disable_created_metrics()
        self._registry = registry = CollectorRegistry(auto_describe=False)
        self._lock = threading.Lock()
        self._read_at = -_FRESH_FOR_S
        self._tally: tuple[Store, MetricsReader] | None = None
        self._database = _DatabaseCollector()
        registry.register(self._database)
        build = Gauge(
            "tangent_build_info", "Always 1; the version of the service.", ["version"], registry=registry
        )
        build.labels(version).set(1)
        clients = Gauge("tangent_event_stream_clients", "Open event streams.", registry=registry)
        clients.set_function(lambda: streams.open)
        self._in_flight = Gauge(
            "tangent_http_requests_in_flight",
            "Requests in progress, including event streams.",
            registry=registry,
        )
        self._requests = Counter(
            "tangent_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._request_s = Histogram(
            "tangent_http_request_seconds",
            "Time until the response; for an event stream, until its start.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._transaction_s = Histogram(
            "tangent_database_transaction_seconds",
            "Time of a transaction of this service, including the wait for a connection.",
            ["kind"],
            buckets=_TRANSACTION_SECONDS,
            registry=registry,
        )
        for kind in ("read", "write"):
            self._transaction_s.labels(kind)
        self._deliveries = Counter(
            "tangent_webhook_deliveries",
            "Delivery attempts of this service to webhooks, by outcome.",
            ["outcome"],
            registry=registry,
        )
        for outcome in get_args(AttemptOutcome):
            self._deliveries.labels(outcome)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    def observe_transactions(self, store: Store) -> None:
        """Measure the transactions of a store from now on."""
        store.on_transaction(lambda kind, seconds: self._transaction_s.labels(kind).observe(seconds))

    def request_started(self) -> None:
        """Count a request as in progress."""
        self._in_flight.inc()

    def request_finished(self) -> None:
        """Count a request as no longer in progress."""
        self._in_flight.dec()

    def count_response(self, method: str, route: str, status: int, *, seconds: float) -> None:
        """Count a response by the template of its route, because the number of paths is unbounded."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(method, route).observe(seconds)

    def count_delivery(self, outcome: AttemptOutcome) -> None:
        """Count a delivery attempt."""
        self._deliveries.labels(outcome).inc()

    def render(self, store: Store | None) -> bytes:
        """Return all metrics in Prometheus's text format.

        Args:
            store: the database, which is read once a second at most. None if it is known not to answer.
        """
        with self._lock:
            if store is None:
                self._database.standing = None
            elif time.monotonic() - self._read_at >= _FRESH_FOR_S:
                self._database.standing = self._read(store)
                self._read_at = time.monotonic()
            return generate_latest(self._registry)

    def _read(self, store: Store) -> MetricsSnapshot | None:
        if self._tally is None or self._tally[0] is not store:
            self._tally = (store, store.metrics_reader())
        try:
            return self._tally[1].snapshot()
        except StoreUnavailable:
            return None
