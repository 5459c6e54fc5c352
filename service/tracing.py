"""OpenTelemetry traces, sent to OTEL_EXPORTER_OTLP_ENDPOINT: a span for each request and each SQL statement.

FastAPI creates the spans of requests. The spans of statements are created here, because OpenTelemetry's
instrumentation of SQLAlchemy does not accept version 2.1. The exporter is in the extra `otel`, which is
imported only if an endpoint is set.
"""

__all__ = ["Tracing", "start_tracing"]

from collections.abc import Callable, MutableMapping
from typing import Any

from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from service.settings import ServiceSettings, SettingsInvalid
from studies.store import Store

_NAME = "tangent"
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_MAX_STATEMENT = 2000


def _is_quiet(scope: MutableMapping[str, Any]) -> bool:
    """Return whether a request is not traced: probes are frequent, and streams last for hours."""
    return (
        scope["path"] in _QUIET or scope["path"].endswith("/events") or scope["path"].startswith("/static/")
    )


def _ignore(_error: BaseException | None) -> None:
    """End a statement that belongs to no traced request."""


class Tracing:
    """Sends the spans of a service to a collector, in batches, from a thread of its own.

    Args:
        endpoint: the collector's base URL, `http://HOST:4318`.

    Raises:
        SettingsInvalid: the extra `otel` is not installed.
    """

    def __init__(self, endpoint: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise SettingsInvalid(
                f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed ({error}); "
                "install it with `pip install 'tangent-studies[otel]'`, or unset the variable"
            ) from None
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the name.
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: _NAME}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"))
        )
        self._tracer = self._provider.get_tracer(_NAME)

    @property
    def telemetry(self) -> TelemetryConfig:
        """The configuration for FastAPI."""
        return TelemetryConfig(
            tracer_provider=self._provider,
            metrics=False,
            logs=False,
            operation_spans=False,
            auto_configure=False,
            exclude=_is_quiet,
        )

    def trace_statements(self, store: Store) -> None:
        """Trace a store's statements in traced requests from now on: their text without the values."""
        store.on_statement(self._begin)

    def _begin(self, statement: str) -> Callable[[BaseException | None], None]:
        if not get_current_span().is_recording():
            return _ignore
        verb = statement.split(maxsplit=1)[0].upper() if statement.strip() else "SQL"
        span = self._tracer.start_span(
            verb, kind=SpanKind.CLIENT, attributes={"db.query.text": statement[:_MAX_STATEMENT]}
        )

        def end(error: BaseException | None) -> None:
            if error is not None:
                # Only the class of the error, because its message may quote values.
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
            span.end()

        return end

    def close(self) -> None:
        """Send the remaining spans and stop; wait two seconds at most for the collector."""
        self._provider.force_flush(timeout_millis=2000)
        self._provider.shutdown()


def start_tracing(settings: ServiceSettings) -> Tracing | None:
    """Return the tracing of a service; None if no collector is set.

    Raises:
        SettingsInvalid: a collector is set, but the extra `otel` is not installed.
    """
    return None if settings.otlp_endpoint is None else Tracing(settings.otlp_endpoint)
