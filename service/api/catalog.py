"""The catalogue: the optimizers and workloads that dispatchers have announced."""

__all__ = ["catalog_router"]

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from service import errors
from service.api.openapi import problem_responses
from service.api.parameters import NAME
from service.api.responses import json_response, one_page
from studies.catalog import BrokenPackage, OptimizerCard, WorkloadCard
from studies.errors import NotFound
from studies.store import Store
from studies.views import Page

OptimizerName = Annotated[str, Path(pattern=NAME, description="Name of an optimizer.", examples=["adamp"])]
WorkloadName = Annotated[str, Path(pattern=NAME, description="Name of a workload.", examples=["digits-mlp"])]


def catalog_router() -> APIRouter:
    """Return the routes of the catalogue."""
    router = APIRouter(tags=["catalogue"])

    @router.get(
        "/optimizers",
        response_model=Page[OptimizerCard],
        summary="All optimizers",
        responses=problem_responses(),
    )
    def list_optimizers(request: Request) -> Response:
        """Return every optimizer's card by name, on one page.

        A card has the optimizer's hyperparameters, defaults, usual ranges and features.
        """
        store: Store = request.app.state.store
        return json_response(one_page(Page[OptimizerCard], tuple(store.catalog().optimizers.values())))

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
        responses=problem_responses(),
    )
    def list_workloads(request: Request) -> Response:
        """Return every workload's card by name, on one page.

        A card has the workload's data, metric, direction, target and size.
        """
        store: Store = request.app.state.store
        return json_response(one_page(Page[WorkloadCard], tuple(store.catalog().workloads.values())))

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
        "/broken-packages",
        response_model=Page[BrokenPackage],
        summary="Packages that could not be loaded",
        responses=problem_responses(),
    )
    def list_broken_packages(request: Request) -> Page[BrokenPackage]:
        """Return every installed package whose optimizers or workloads a dispatcher could not load."""
        store: Store = request.app.state.store
        return one_page(Page[BrokenPackage], store.catalog().broken)

    _ = list_optimizers, get_optimizer, list_workloads, get_workload, list_broken_packages
    return router
