"""GET /v1: where to begin."""

__all__ = ["Links", "index_router"]

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service.api.openapi import problem_responses


class Links(BaseModel):
    """Paths of this service to begin with; those in braces are to be filled in."""

    model_config = ConfigDict(frozen=True)

    studies: str = Field(default="/v1/studies", description="Studies: list them, or POST one.")
    study: str = Field(default="/v1/studies/{study_id}", description="One study.")
    analysis: str = Field(
        default="/v1/studies/{study_id}/analysis",
        description="What a study's record says: the verdict, curves, checks.",
    )
    report: str = Field(
        default="/v1/studies/{study_id}/report",
        description="The same to read and to hand on, in several formats.",
    )
    bundle: str = Field(
        default="/v1/studies/{study_id}/bundle",
        description="All data of a study, its report, and what is needed to run it again.",
    )
    suites: str = Field(
        default="/v1/suites", description="Suites: studies of several workloads that share a label."
    )
    comparison: str = Field(
        default="/v1/comparison{?study*}", description="Studies of one workload, side by side."
    )
    optimizers: str = Field(default="/v1/optimizers", description="Optimizers that a study can compare.")
    workloads: str = Field(default="/v1/workloads", description="Workloads that a study can train on.")
    webhooks: str = Field(
        default="/v1/webhooks",
        description="Addresses that are told what happens to studies: list them, or POST one.",
    )
    account: str = Field(
        default="/v1/account", description="Who is calling: role, quotas and what is used of them."
    )
    audit: str = Field(default="/v1/audit", description="What everybody did; for admins.")
    problems: str = Field(
        default="/problems", description="Every kind of problem that the service answers with."
    )
    openapi: str = Field(default="/openapi.json", description="The API's description for programs.")
    docs: str = Field(default="/docs", description="The API's description for people.")
    health: str = Field(default="/healthz", description="Whether the process is up.")
    ready: str = Field(default="/readyz", description="Whether studies can be run.")
    metrics: str = Field(default="/metrics", description="Metrics for Prometheus.")


def index_router() -> APIRouter:
    """Return the route of the index."""
    router = APIRouter(tags=["index"])

    @router.get("", response_model=Links, summary="Where to begin", responses=problem_responses())
    def get_index() -> Links:
        """Return the paths to begin with."""
        return Links()

    _ = get_index
    return router
