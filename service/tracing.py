"""Traces by OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT says where to send them.

A span for each request, and in it one for each statement.

The framework makes the spans of requests; those of statements are made here, for OpenTelemetry's own
instrumentation of SQLAlchemy refuses its version 2.1. The exporter is the extra `otel`, and nothing of it is
imported before it is asked for.
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
_STATEMENT_TOLD = 2000


def _is_quiet(scope: MutableMapping[str, Any]) -> bool:
    """Return whether a request is not worth a trace.

    Machinery asks it all the time, or it is a stream that lasts for hours.
    """
    return (
        scope["path"] in _QUIET
        or scope["path"].endswith("/events")
        or scope["path"].startswith(("/static/", "/docs/"))
    )


def _unwatched(_error: BaseException | None) -> None:
    """End a statement that belongs to no request."""


class Tracing:
    """Sends the spans of one service to a collector, in batches, from a thread of its own.

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
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before it.
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
        """What the framework has to know."""
        return TelemetryConfig(
            tracer_provider=self._provider,
            metrics=False,
            logs=False,
            operation_spans=False,
            auto_configure=False,
            exclude=_is_quiet,
        )

    def watch(self, store: Store) -> None:
        """Trace the statements of a store from now on.

        Those of requests that are traced, by their text and without their values.
        """
        store.on_statement(self._begin)

    def _begin(self, statement: str) -> Callable[[BaseException | None], None]:
        if not get_current_span().is_recording():
            return _unwatched
        verb = statement.split(maxsplit=1)[0].upper() if statement.strip() else "SQL"
        span = self._tracer.start_span(
            verb, kind=SpanKind.CLIENT, attributes={"db.query.text": statement[:_STATEMENT_TOLD]}
        )

        def end(error: BaseException | None) -> None:
            if error is not None:
                # By its kind: what a database says of an error may quote values.
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
            span.end()

        return end

    def close(self) -> None:
        """Send what has not been sent, and end; a collector that does not answer is not waited for long."""
        self._provider.force_flush(timeout_millis=2000)
        self._provider.shutdown()


def start_tracing(settings: ServiceSettings) -> Tracing | None:
    """Return what traces a service; None where no collector is set.

    Raises:
        SettingsInvalid: one is set, and the extra `otel` is not installed.
    """
    return None if settings.otlp_endpoint is None else Tracing(settings.otlp_endpoint)
