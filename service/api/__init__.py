"""The REST API under /v1, and the endpoints for probes and Prometheus."""

__all__ = ["api_router"]

from fastapi import APIRouter, Depends

from service.api.accounts import account_router
from service.api.analyses import analysis_router
from service.api.archive import archive_router
from service.api.artifacts import artifact_router
from service.api.catalog import catalog_router
from service.api.cluster import cluster_router
from service.api.events import event_router
from service.api.follow_ups import follow_up_router
from service.api.index import index_router
from service.api.notes import notes_router
from service.api.reports import report_router
from service.api.studies import study_router
from service.api.trials import trial_router
from service.api.webhooks import webhook_router
from service.auth import authorize


def api_router() -> APIRouter:
    """Return every route under /v1; each authorizes the caller first."""
    router = APIRouter(dependencies=[Depends(authorize)])
    parts = (
        index_router(),
        follow_up_router(),
        archive_router(),
        notes_router(),
        study_router(),
        event_router(),
        trial_router(),
        artifact_router(),
        analysis_router(),
        report_router(),
        catalog_router(),
        cluster_router(),
        webhook_router(),
        account_router(),
    )
    for part in parts:
        router.include_router(part, prefix="/v1")
    return router
