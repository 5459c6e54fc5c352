"""The ASGI application: store, middleware, API and dashboard."""

__all__ = ["create_app"]

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware

from service.analysis_cache import AnalysisCache
from service.analysis_pool import AnalysisPool
from service.api import api_router
from service.api.health import health_router
from service.api.metrics import metrics_router
from service.api.openapi import describe
from service.api.problems import problem_router
from service.api.webhooks import describe_payloads
from service.api_docs import add_docs
from service.auth import check_exposure
from service.body_parsers import BodyParsers
from service.closed_study_cache import ClosedStudyCache
from service.cluster_status import ClusterStatus
from service.compression import Compression
from service.dashboard.login_pages import login_router
from service.dashboard.pages import dashboard_router, static_files
from service.dashboard.rendering import login_html, problem_html
from service.dashboard.theme_switch import theme_router
from service.event_streams import EventStreams, StreamSettings
from service.exception_handlers import ErrorPages, install_exception_handlers
from service.maintenance import run_maintenance
from service.metrics import Metrics
from service.middleware import (
    BodyLimit,
    CrossSiteCheck,
    ErrorBoundary,
    HeadRequests,
    HostCheck,
    QueryLimit,
    SecurityHeaders,
)
from service.public_address import RootPath
from service.rate_limits import RateLimits
from service.recent_credentials import RecentCredentials
from service.request_log import RequestLog
from service.settings import ServiceSettings, is_loopback
from service.theme_choice import ThemeChoice
from service.tracing import start_tracing
from service.webhooks.deliveries import DeliverySettings, DeliveryWorker
from service.write_threads import LOCK_WAIT_S, WriteThreads
from studies.store import Store

_DESCRIPTION = """
Compare optimizers fairly: submit a **study** (a workload, several **arms**, the same budget for each), \
watch its **trials**, and read its verdict.

* Errors are `application/problem+json` (RFC 9457); their `type` is a path that explains the problem.
* Lists are paged: send the `next_page_token` of a page as `page_token`.
* `POST /v1/studies` accepts an `Idempotency-Key`, so that a request can be retried, \
and `validate_only=true`, which stores nothing.
* `GET /v1/studies/{study_id}/analysis` says which arm is better, by how much and how certain that is. \
It uses runs on fresh seeds, not the search.
* Bodies are JSON (`application/json`) or YAML (`application/yaml`).
* HEAD works wherever GET does. `Accept-Encoding: gzip` compresses JSON and CSV.
* Send a study's `ETag` in `If-None-Match` and `If-Match`.
* `GET /v1/studies/{study_id}/events` streams events as they happen; `Last-Event-ID` continues \
after a disconnect.
* `POST /v1/webhooks` sends signed events to your own URL.
* While no API token exists, the service listens only to its own machine and needs no token. \
Once one exists, every request needs a token.
"""
_TAGS = [
    {
        "name": "studies",
        "description": "Submit, watch, pause, resume, stop, cancel, confirm, extend and clone studies.",
    },
    {"name": "analysis", "description": "Analyses of a study, of a suite, or of studies side by side."},
    {"name": "trials", "description": "The configurations that were trained, and their measurements."},
    {"name": "catalogue", "description": "The available optimizers and workloads."},
    {"name": "webhooks", "description": "Send events of studies to your own URL."},
    {"name": "users", "description": "The caller's account, and the audit log."},
    {"name": "index", "description": "The entry points."},
    {"name": "health", "description": "For probes and Prometheus."},
    {"name": "problems", "description": "The kinds of problems, explained."},
]

# More threads would compete for the interpreter; with fewer, requests would queue while the database does not
# answer.
_THREADS = 20
# Callers that an attack from their own address does not lock out.
_MAX_RECENT_CREDENTIALS = 10_000
# From one address; a person needs one.
_LOGINS_PER_S = 2.0
# From all addresses. The audit log records no more refused logins, so that an attack from many addresses does
# not keep the database writing.
_RECORDED_LOGINS_PER_S = 10.0
# Requested by probes and scrapers, which know each replica by its address. They reveal nothing to a page of
# another site that its user could not see.
_PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})


def _version() -> str:
    try:
        return version("tangent-studies")
    except PackageNotFoundError:
        return "0+source"


def _known_hosts(settings: ServiceSettings) -> frozenset[str] | None:
    """Return the host names of the service besides the machine's own.

    None means any name: tokens guard the service, and no names are set.
    """
    if not is_loopback(settings.host) and not settings.allowed_hosts:
        return None
    return frozenset(host.lower() for host in (*settings.allowed_hosts, settings.host))


def create_app(
    settings: ServiceSettings,
    store: Store | None = None,
    *,
    stream_settings: StreamSettings | None = None,
    delivery_settings: DeliverySettings | None = None,
    analysis_pool: AnalysisPool | None = None,
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        settings: where it listens and which database it opens.
        store: an open store, which the caller closes; by default one is opened at startup and closed at
            shutdown.
        stream_settings: how often event streams poll the store and send heartbeats.
        delivery_settings: how often due webhook deliveries are looked for.
        analysis_pool: where analyses are computed; by default in the threads of the callers. It is closed at
            shutdown.
    """
    streams = EventStreams(settings=stream_settings)
    metrics = Metrics(streams, version=_version())
    deliveries = DeliveryWorker(
        allow=settings.webhook_allow,
        version=_version(),
        count=metrics.count_delivery,
        settings=delivery_settings,
    )
    tracing = start_tracing(settings)

    def observe(opened: Store) -> None:
        metrics.observe_transactions(opened)
        if tracing is not None:
            tracing.trace_statements(opened)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        if store is None:
            app.state.store = await run_in_threadpool(
                partial(Store.open, settings.database, lock_wait_s=LOCK_WAIT_S)
            )
            app.state.analyses = AnalysisCache(app.state.store, pool=analysis_pool)
            app.state.closed_studies = ClosedStudyCache(app.state.store)
            observe(app.state.store)
        current_default_thread_limiter().total_tokens = _THREADS
        try:
            await run_in_threadpool(check_exposure, settings, app.state.store)
            with run_maintenance(app.state.store):
                async with deliveries.running(app.state.store):
                    yield
        finally:
            app.state.streams.close()
            app.state.analyses.close()
            if tracing is not None:
                await run_in_threadpool(tracing.close)
            if store is None:
                app.state.store.close()

    app = FastAPI(
        title="Tangent",
        summary="Fair, repeatable comparisons of optimizers.",
        description=_DESCRIPTION,
        version=_version(),
        openapi_tags=_TAGS,
        # `service.api_docs` adds these.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # The outermost first.
        middleware=[
            Middleware(RootPath, root=settings.root_path),
            Middleware(ThemeChoice),
            Middleware(RequestLog, metrics=metrics),
            Middleware(SecurityHeaders),
            Middleware(ErrorBoundary),
            Middleware(
                HostCheck,
                hosts=_known_hosts(settings),
                exempt_paths=frozenset() if is_loopback(settings.host) else _PROBE_PATHS,
            ),
            Middleware(CrossSiteCheck),
            Middleware(QueryLimit),
            Middleware(BodyLimit),
            Middleware(HeadRequests),
            Middleware(Compression),
        ],
        generate_unique_id_function=lambda route: route.name,
        # FastAPI's own reading of the environment does not explain what is missing.
        telemetry={"auto_configure": False} if tracing is None else tracing.telemetry,
    )
    app.state.settings = settings
    app.state.streams = streams
    app.state.metrics = metrics
    app.state.body_parsers = BodyParsers()
    app.state.cluster = ClusterStatus()
    app.state.rate_limits = RateLimits(settings.rate_per_s)
    app.state.recent_credentials = RecentCredentials(max_entries=_MAX_RECENT_CREDENTIALS)
    app.state.write_threads = WriteThreads()
    app.state.login_limits = RateLimits(_LOGINS_PER_S)
    app.state.refusal_limits = RateLimits(_RECORDED_LOGINS_PER_S)
    if store is not None:
        app.state.store = store
        app.state.analyses = AnalysisCache(store, pool=analysis_pool)
        app.state.closed_studies = ClosedStudyCache(store)
        observe(store)
    install_exception_handlers(app, ErrorPages(problem=problem_html, login=login_html))
    app.include_router(health_router(app.version))
    app.include_router(metrics_router())
    app.include_router(api_router())
    app.include_router(problem_router())
    describe_payloads(app)
    add_docs(app)
    app.mount("/static", static_files())
    app.include_router(login_router())
    app.include_router(theme_router())
    app.include_router(dashboard_router())
    app.openapi = lambda: _openapi(app, settings.root_path)
    return app


def _openapi(app: FastAPI, root: str) -> dict[str, object]:
    app.openapi_schema = app.openapi_schema or describe(app) | ({"servers": [{"url": root}]} if root else {})
    return app.openapi_schema
