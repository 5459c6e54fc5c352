"""The application: the store it reads, the fences around it, the API and the dashboard in it."""

__all__ = ["create_app"]

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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
from service.closed_study_cache import ClosedStudyCache
from service.dashboard.login_pages import login_router
from service.dashboard.pages import dashboard_router, static_files
from service.dashboard.rendering import login_html, problem_html
from service.event_streams import EventStreams, StreamSettings
from service.exception_handlers import ErrorPages, install_exception_handlers
from service.maintenance import run_maintenance
from service.metrics import Metrics
from service.middleware import BodyLimit, CrossSiteCheck, ErrorBoundary, HostCheck, SecurityHeaders
from service.rate_limits import RateLimits
from service.recent_credentials import RecentCredentials
from service.request_log import RequestLog
from service.settings import ServiceSettings, is_loopback
from service.tracing import start_tracing
from service.webhooks.deliveries import DeliverySettings, DeliveryWorker
from studies.store import Store

_DESCRIPTION = """
Compare optimizers fairly: submit a **study** (a workload, several **arms**, one budget for each), \
watch its **trials**, read its best.

* Errors are `application/problem+json` (RFC 9457); their `type` leads to an explanation under `/problems`.
* Lists have `next_page_token`; give it back as `page_token`.
* `POST /v1/studies` takes an `Idempotency-Key`, so that a request can be repeated, \
and `validate_only=true`, which stores nothing.
* `GET /v1/studies/{study_id}/analysis` says which arm is better, by how much and how sure that is: \
from runs on fresh seeds, not from the search.
* A study's `ETag` can be sent back in `If-None-Match` and `If-Match`.
* `GET /v1/studies/{study_id}/events` streams what happens; `Last-Event-ID` goes on \
where a reader was cut off.
* `POST /v1/webhooks` has it sent to an address of yours, signed.
* While no API token exists, the service listens to its own machine only and needs none; \
with one, every request needs one.
"""
_TAGS = [
    {
        "name": "studies",
        "description": "Submit, watch, pause, resume, stop, cancel, confirm, extend and clone studies.",
    },
    {"name": "analysis", "description": "What studies found, each by itself, as a suite or side by side."},
    {"name": "trials", "description": "Configurations that were trained, and what they measured."},
    {"name": "catalogue", "description": "What can be asked for."},
    {"name": "webhooks", "description": "Be told, at an address of your own, of what happens to studies."},
    {"name": "users", "description": "Who is calling, and what everybody did."},
    {"name": "index", "description": "Where to begin."},
    {"name": "health", "description": "For machinery."},
    {"name": "problems", "description": "What the types of problems mean."},
]

# More of them would take the interpreter from each other; fewer would make callers of a database that does
# not answer wait in turn.
_THREADS = 20
# Callers that an attack from their own address does not lock out.
_MAX_RECENT_CREDENTIALS = 10_000
# From one address: a person needs one.
_LOGINS_PER_S = 2.0
# Of probes and scrapers, which find each replica by its address. None of these tells a page of another site
# what its user may not.
_FOR_MACHINERY = frozenset({"/healthz", "/readyz", "/metrics"})


def _version() -> str:
    try:
        return version("tangent-studies")
    except PackageNotFoundError:
        return "0+source"


def _known_hosts(settings: ServiceSettings) -> frozenset[str] | None:
    """Return the names the service goes by besides the machine's own.

    None for all, where tokens guard it and no names were given.
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
        store: an open store, which stays its owner's to close; by default one is opened at start-up and
            closed at shutdown.
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

    def watch(opened: Store) -> None:
        metrics.watch(opened)
        if tracing is not None:
            tracing.watch(opened)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        if store is None:
            app.state.store = await run_in_threadpool(Store.open, settings.database_url)
            app.state.analyses = AnalysisCache(app.state.store, pool=analysis_pool)
            app.state.closed_studies = ClosedStudyCache(app.state.store)
            watch(app.state.store)
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
        # `service.api_docs` has both.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # The outermost first.
        middleware=[
            Middleware(RequestLog, metrics=metrics),
            Middleware(SecurityHeaders),
            Middleware(ErrorBoundary),
            Middleware(
                HostCheck,
                hosts=_known_hosts(settings),
                exempt_paths=frozenset() if is_loopback(settings.host) else _FOR_MACHINERY,
            ),
            Middleware(CrossSiteCheck),
            Middleware(BodyLimit),
        ],
        generate_unique_id_function=lambda route: route.name,
        # Its own reading of the environment has no sentence for what is missing.
        telemetry={"auto_configure": False} if tracing is None else tracing.telemetry,
    )
    app.state.settings = settings
    app.state.streams = streams
    app.state.metrics = metrics
    app.state.rate_limits = RateLimits(settings.rate_per_s)
    app.state.recent_credentials = RecentCredentials(max_entries=_MAX_RECENT_CREDENTIALS)
    app.state.login_limits = RateLimits(_LOGINS_PER_S)
    if store is not None:
        app.state.store = store
        app.state.analyses = AnalysisCache(store, pool=analysis_pool)
        app.state.closed_studies = ClosedStudyCache(store)
        watch(store)
    install_exception_handlers(app, ErrorPages(problem=problem_html, login=login_html))
    app.include_router(health_router(app.version))
    app.include_router(metrics_router())
    app.include_router(api_router())
    app.include_router(problem_router())
    describe_payloads(app)
    add_docs(app)
    app.mount("/static", static_files())
    app.include_router(login_router())
    app.include_router(dashboard_router())
    app.openapi = lambda: _described(app)
    return app


def _described(app: FastAPI) -> dict[str, object]:
    app.openapi_schema = app.openapi_schema or describe(app)
    return app.openapi_schema
