"""/metrics: the endpoint that Prometheus scrapes."""

__all__ = ["metrics_router"]

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse

from service.api.openapi import problem_responses
from service.auth import authorize
from service.metrics import Metrics
from service.recent_credentials import RecentCredentials
from studies.errors import NotPermitted, StoreUnavailable

_MAX_SCRAPERS = 64


def _is_store_up(request: Request, scrapers: RecentCredentials) -> bool:
    """Authorize a scrape and return whether the database answered.

    While it does not, a service cannot check tokens, but must be watched. A scraper that was accepted within
    the last hour is accepted then: an hour is longer than a restart of the database.

    Raises:
        Unauthenticated, Forbidden: as `authorize` does.
        StoreUnavailable: the database does not answer, and the scraper was not accepted recently.
    """
    try:
        authorize(request)
    except StoreUnavailable:
        if request not in scrapers:
            raise
        return False
    except NotPermitted:
        scrapers.discard(request)
        raise
    scrapers.add(request)
    return True


def metrics_router() -> APIRouter:
    """Return the route; once tokens exist it needs a viewer's.

    Prometheus sends it as `authorization: {credentials: …}`.
    """
    router = APIRouter(tags=["health"])
    scrapers = RecentCredentials(max_entries=_MAX_SCRAPERS)

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        summary="Metrics for Prometheus",
        response_description="Prometheus's text format, version 0.0.4.",
        responses=problem_responses(),
    )
    def get_metrics(request: Request) -> Response:
        """Return the service's metrics.

        Studies and trials by state, the queue, epochs, requests, transactions, streams, dispatchers.

        While the database does not answer, a scraper that was accepted within the last hour gets only the
        metrics of the process, with `tangent_database_up 0`.
        """
        metrics: Metrics = request.app.state.metrics
        body = metrics.render(request.app.state.store if _is_store_up(request, scrapers) else None)
        return Response(body, headers={"cache-control": "no-store"}, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    _ = get_metrics
    return router
