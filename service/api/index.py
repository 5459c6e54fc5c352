"""GET /v1: the entry points of the API."""

__all__ = ["Links", "index_router"]

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service.api.openapi import problem_responses
from service.public_address import root_path


class Links(BaseModel):
    """The entry points of this service; replace the names in braces."""

    model_config = ConfigDict(frozen=True)

    studies: str = Field(default="/v1/studies", description="Studies: list them, or POST one.")
    study: str = Field(default="/v1/studies/{study_id}", description="One study.")
    analysis: str = Field(
        default="/v1/studies/{study_id}/analysis",
        description="Analysis of a study: the verdict, curves, checks.",
    )
    power: str = Field(
        default="/v1/studies/{study_id}/power",
        description="The gap that a study could have detected by its paired trials.",
    )
    notes: str = Field(
        default="/v1/studies/{study_id}/notes", description="Notes of a study, with their history."
    )
    report: str = Field(
        default="/v1/studies/{study_id}/report",
        description="The analysis as a report, in several formats.",
    )
    bundle: str = Field(
        default="/v1/studies/{study_id}/bundle",
        description="All data of a study, its report, and everything needed to run it again.",
    )
    verdicts: str = Field(
        default="/v1/verdicts{?study*}", description="Verdicts of several studies in a phrase."
    )
    suites: str = Field(
        default="/v1/suites", description="Suites: studies of several workloads that share a label."
    )
    comparison: str = Field(
        default="/v1/comparison{?study*,arm*}", description="Arms of one workload, side by side."
    )
    optimizers: str = Field(default="/v1/optimizers", description="Optimizers that a study can compare.")
    workloads: str = Field(default="/v1/workloads", description="Workloads that a study can train on.")
    broken_packages: str = Field(
        default="/v1/broken-packages",
        description="Installed packages whose optimizers or workloads could not be loaded.",
    )
    cluster: str = Field(default="/v1/cluster", description="Machines, dispatchers and the queue.")
    webhooks: str = Field(
        default="/v1/webhooks",
        description="Webhooks that receive events of studies: list them, or POST one.",
    )
    account: str = Field(default="/v1/account", description="The caller's role and quotas.")
    audit: str = Field(default="/v1/audit", description="The audit log; only for admins.")
    problems: str = Field(
        default="/problems", description="Every kind of problem that the service responds with."
    )
    openapi: str = Field(default="/openapi.json", description="The OpenAPI description.")
    docs: str = Field(default="/docs", description="The documentation of the API.")
    health: str = Field(default="/healthz", description="Whether the process is up.")
    ready: str = Field(default="/readyz", description="Whether studies can be run.")
    metrics: str = Field(default="/metrics", description="Metrics for Prometheus.")


def index_router() -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["index"])

    @router.get("", response_model=Links, summary="Entry points", responses=problem_responses())
    def get_index() -> Links:
        """Return the entry points of the API."""
        root = root_path()
        return Links(**{name: f"{root}{field.default}" for name, field in Links.model_fields.items()})

    _ = get_index
    return router
