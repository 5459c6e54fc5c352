"""The catalogue: the optimizers and workloads that dispatchers have announced."""

__all__ = ["catalog_router"]

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service import errors
from service.api.openapi import problem_responses
from service.api.parameters import NAME
from service.api.responses import json_response, one_page
from studies.catalog import BrokenPackage, OptimizerCard, WorkloadCard
from studies.catalog_search import search_cards
from studies.errors import NotFound
from studies.store import Store
from studies.views import Page
from studies.workload_records import WorkloadRecord

OptimizerName = Annotated[str, Path(pattern=NAME, description="Name of an optimizer.", examples=["adamp"])]
SearchText = Annotated[
    str,
    Query(
        max_length=200,
        description=(
            "Only cards with each of these words in a name, a description, a hyperparameter or a source."
        ),
    ),
]
WorkloadName = Annotated[str, Path(pattern=NAME, description="Name of a workload.", examples=["digits-mlp"])]


def catalog_router() -> APIRouter:
    """Return the routes of the catalogue."""
    router = APIRouter(tags=["catalogue"])

    @router.get(
        "/optimizers",
        response_model=Page[OptimizerCard],
        summary="All optimizers",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_optimizers(request: Request, q: SearchText = "") -> Response:
        """Return the optimizers' cards on one page.

        A card has the optimizer's hyperparameters, defaults, usual ranges and features.
        """
        store: Store = request.app.state.store
        found = search_cards(store.catalog().optimizers.values(), q)
        return json_response(one_page(Page[OptimizerCard], found))

    @router.get(
        "/optimizers/{name}",
        response_model=OptimizerCard,
        summary="One optimizer",
        responses=problem_responses(errors.NOT_FOUND),
    )
    def get_optimizer(request: Request, name: OptimizerName) -> OptimizerCard:
        """Return an optimizer's card."""
        store: Store = request.app.state.store
        catalog = store.catalog()
        if name not in catalog.optimizers:
            raise NotFound(catalog.describe_unknown("optimizer", name))
        return catalog.optimizers[name]

    @router.get(
        "/workloads",
        response_model=Page[WorkloadCard],
        summary="All workloads",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_workloads(request: Request, q: SearchText = "") -> Response:
        """Return the workloads' cards on one page.

        A card has the workload's data, metric, direction, target and size.
        """
        store: Store = request.app.state.store
        found = search_cards(store.catalog().workloads.values(), q)
        return json_response(one_page(Page[WorkloadCard], found))

    @router.get(
        "/workloads/{name}",
        response_model=WorkloadCard,
        summary="One workload",
        responses=problem_responses(errors.NOT_FOUND),
    )
    def get_workload(request: Request, name: WorkloadName) -> WorkloadCard:
        """Return a workload's card."""
        store: Store = request.app.state.store
        catalog = store.catalog()
        if name not in catalog.workloads:
            raise NotFound(catalog.describe_unknown("workload", name))
        return catalog.workloads[name]

    @router.get(
        "/workloads/{name}/record",
        response_model=WorkloadRecord,
        summary="What machines found out about a workload",
        responses=problem_responses(errors.NOT_FOUND),
    )
    def get_workload_record(request: Request, name: WorkloadName) -> WorkloadRecord:
        """Return the checks of a workload's versions, and how many of its trials are trained together."""
        store: Store = request.app.state.store
        catalog = store.catalog()
        if name not in catalog.workloads:
            raise NotFound(catalog.describe_unknown("workload", name))
        return store.workload_record(name)

    @router.get(
        "/broken-packages",
        response_model=Page[BrokenPackage],
        summary="Packages that could not be loaded",
        responses=problem_responses(),
    )
    def list_broken_packages(request: Request) -> Page[BrokenPackage]:
        """Return every installed package whose optimizers or workloads a dispatcher could not load."""
        store: Store = request.app.state.store
        return one_page(Page[BrokenPackage], store.catalog().broken)

    _ = list_optimizers, get_optimizer, list_workloads, get_workload, get_workload_record
    _ = list_broken_packages
    return router
