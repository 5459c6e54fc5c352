"""A study's trials and what each measured."""

__all__ = ["PhaseFilter", "TrialOrder", "TrialQuery", "trial_router"]

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import errors
from service.api.openapi import problem_responses
from service.api.studies import PageToken, StudyId, cached_response
from studies.states import TrialFilter
from studies.store import Store
from studies.trials import Measurement
from studies.views import Page, TrialView

PhaseFilter = Literal["search", "confirmation", "all"]
TrialOrder = Literal[
    "created", "-created", "number", "-number", "value", "-value", "cost", "-cost", "ended", "-ended"
]

TrialId = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9]{1,16}\.[a-z0-9][a-z0-9-]{0,63}\.c?[0-9]{1,9}$",
        description=(
            "Id of a trial: study, arm and number, with a `c` before the number of one that confirms another."
        ),
        examples=["k3f9x2db.adamp.7"],
    ),
]


class TrialQuery(BaseModel):
    """Which trials to list, and in which order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str | None = Field(
        default=None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Only this arm's.", examples=["adamp"]
    )
    state: TrialFilter | None = Field(
        default=None,
        description=(
            "Only those in this state. `waiting` is a filter, not a state: it picks those of the `queued` "
            "that wait at a rung of the pruner, each with `epochs_done` equal to its `to_epoch`, while "
            "`queued` picks them and all others that no worker trains."
        ),
    )
    phase: PhaseFilter = Field(
        default="search",
        description="Those of the search, those that confirm what it found on fresh seeds, or all.",
    )
    order: TrialOrder = Field(
        default="created",
        description=(
            "`value` puts the best first, whichever way the metric runs; a leading `-` "
            "reverses. Trials without it come last."
        ),
    )
    page_size: int = Field(default=100, ge=1, le=500, description="At most so many.")
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
    def get_trial(request: Request, trial_id: TrialId) -> TrialView:
        """Return a trial."""
        store: Store = request.app.state.store
        return store.trial(trial_id)

    @router.get(
        "/trials/{trial_id}/measurements",
        response_model=Page[Measurement],
        summary="What a trial measured",
        responses=problem_responses(errors.TRIAL_NOT_FOUND),
    )
    def list_measurements(request: Request, trial_id: TrialId) -> Page[Measurement]:
        """Return what a trial measured at the end of each epoch, in order, on one page."""
        store: Store = request.app.state.store
        found = store.measurements(trial_id)
        return Page[Measurement](items=found, next_page_token=None, total=len(found))

    _ = list_trials, get_trial, list_measurements
    return router
