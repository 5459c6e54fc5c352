"""A study's trials and their measurements."""

__all__ = ["PhaseFilter", "TrialId", "TrialOrder", "TrialQuery", "trial_router"]

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from service import errors
from service.api.openapi import problem_responses
from service.api.parameters import NAME, PageToken, StudyId
from service.api.responses import cached_response, json_response, one_page
from studies.frozen_model import FrozenModel
from studies.layers import StudyLayers, TrialLayers
from studies.states import TrialFilter
from studies.store import Store
from studies.trials import Measurement
from studies.views import Page, TrialOutput, TrialView

PhaseFilter = Literal["search", "confirmation", "all"]
TrialOrder = Literal[
    "created", "-created", "number", "-number", "value", "-value", "cost", "-cost", "ended", "-ended"
]

TrialId = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9]{1,16}\.[a-z0-9][a-z0-9-]{0,63}\.c?[0-9]{1,9}$",
        description=(
            "Id of a trial: study, arm and number. The number of a confirmation run has the prefix `c`."
        ),
        examples=["k3f9x2db.adamp.7"],
    ),
]


class TrialQuery(FrozenModel):
    """Which trials to list, and in which order."""

    arm: str | None = Field(
        default=None, pattern=NAME, description="Only trials of this arm.", examples=["adamp"]
    )
    state: TrialFilter | None = Field(
        default=None,
        description=(
            "Only trials in this state. `waiting` is a filter, not a state: it selects queued trials that "
            "wait at a rung of the pruner, whose `epochs_done` equals their `to_epoch`. `queued` selects "
            "those and all other trials that no worker trains."
        ),
    )
    phase: PhaseFilter = Field(
        default="search",
        description="Trials of the search, confirmation runs on fresh seeds, or all.",
    )
    order: TrialOrder = Field(
        default="created",
        description=(
            "`value` lists the best first, for either direction of the metric; a leading `-` "
            "reverses the order. Trials without a value come last."
        ),
    )
    page_size: int = Field(default=100, ge=1, le=500, description="Most trials on the page.")
    page_token: PageToken = None


def trial_router() -> APIRouter:
    """Return the routes of trials."""
    router = APIRouter(tags=["trials"])

    @router.get(
        "/studies/{study_id}/trials",
        response_model=Page[TrialView],
        summary="A study's trials",
        responses=problem_responses(errors.STUDY_NOT_FOUND, errors.ARM_NOT_FOUND, errors.PARAMETER_INVALID),
    )
    def list_trials(request: Request, study_id: StudyId, query: Annotated[TrialQuery, Query()]) -> Response:
        """Return a page of a study's trials."""
        store: Store = request.app.state.store

        def page() -> Page[TrialView]:
            return store.trials(
                study_id,
                arm=query.arm,
                state=query.state,
                phase=None if query.phase == "all" else query.phase,
                order=query.order,
                page_size=query.page_size,
                page_token=query.page_token,
            )

        return cached_response(request, study_id, ("trials", query), page)

    @router.get(
        "/trials/{trial_id}",
        response_model=TrialView,
        summary="One trial",
        responses=problem_responses(errors.TRIAL_NOT_FOUND),
    )
    def get_trial(request: Request, trial_id: TrialId) -> Response:
        """Return a trial."""
        store: Store = request.app.state.store
        return json_response(store.trial(trial_id))

    @router.get(
        "/trials/{trial_id}/measurements",
        response_model=Page[Measurement],
        summary="Measurements of a trial",
        responses=problem_responses(errors.TRIAL_NOT_FOUND),
    )
    def list_measurements(request: Request, trial_id: TrialId) -> Response:
        """Return a trial's measurements, one for each epoch, in order, on one page."""
        store: Store = request.app.state.store
        return json_response(one_page(Page[Measurement], store.measurements(trial_id)))

    @router.get(
        "/trials/{trial_id}/output",
        response_model=TrialOutput,
        summary="Output of a trial",
        responses=problem_responses(errors.TRIAL_NOT_FOUND),
    )
    def get_output(request: Request, trial_id: TrialId) -> TrialOutput:
        """Return the end of what a trial's worker printed while it trained the trial's last pack."""
        store: Store = request.app.state.store
        return store.trial_output(trial_id)

    @router.get(
        "/trials/{trial_id}/layers",
        response_model=TrialLayers,
        summary="Layers of a trial",
        responses=problem_responses(errors.TRIAL_NOT_FOUND),
    )
    def get_layers(request: Request, trial_id: TrialId) -> Response:
        """Return what each layer of a trial's model measured after every epoch.

        Only confirmation runs and trials of the defaults measure their layers.
        """
        store: Store = request.app.state.store
        return json_response(store.trial_layers(trial_id))

    @router.get(
        "/studies/{study_id}/layers",
        response_model=StudyLayers,
        summary="Layers of a study's models",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def get_study_layers(request: Request, study_id: StudyId) -> Response:
        """Return what each layer measured on average over an arm's runs, and which are scale-invariant."""
        store: Store = request.app.state.store
        return cached_response(request, study_id, ("layers",), lambda: store.study_layers(study_id))

    _ = list_trials, get_trial, list_measurements, get_output, get_layers, get_study_layers
    return router
