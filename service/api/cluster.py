"""The machines that train, their dispatchers, and the queue."""

__all__ = ["cluster_router"]

from fastapi import APIRouter, Request, Response

from service.api.openapi import problem_responses
from service.api.responses import json_response
from service.cluster_status import ClusterStatus
from studies.cluster_views import ClusterView


def cluster_router() -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["studies"])

    @router.get(
        "/cluster",
        response_model=ClusterView,
        summary="Machines and queue",
        responses=problem_responses(),
    )
    def get_cluster(request: Request) -> Response:
        """Return what trains at the moment, what waits, and what is wrong; it may be two seconds old."""
        status: ClusterStatus = request.app.state.cluster
        return json_response(status.read(request.app.state.store))

    _ = get_cluster
    return router
