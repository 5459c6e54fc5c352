"""Studies: submit, read, pause, resume, stop and cancel them."""

__all__ = ["StudyQuery", "study_router", "submit_response"]

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from service import errors
from service.api.bodies import StudyBody
from service.api.etags import etag_of, matches_etag, version_in
from service.api.openapi import BODY_FAULTS, body_description, problem_responses
from service.api.parameters import (
    ETAG,
    LOCATION,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    PageToken,
    StudyId,
    ValidateOnly,
)
from service.api.responses import cached_response, json_response, one_page, study_response
from service.auth import CurrentActor
from service.closed_study_cache import ClosedStudyCache
from service.cluster_status import ClusterStatus
from service.schemas import ArmBest, StudyPlan
from service.study_list_query import StudyListQuery
from service.write_threads import WriteRoute
from studies.actors import Actor
from studies.live_views import LiveStudy
from studies.resolve import resolve
from studies.spec import StudySpec
from studies.states import StudyMove
from studies.store import Store
from studies.views import ArmView, Curve, Page, StudySummary, StudyView

_STUDY_BODY = body_description(
    "The study. An arm may be just an optimizer's name, and a dimension just a value.",
    {"$ref": "#/components/schemas/StudySpec-Input"},
    {
        "short": (
            "Shorthands: each arm searches the ranges on its card",
            {"workload": "digits-mlp", "arms": ["adamp", "adamw"], "budget": {"trials_per_arm": 8}},
        ),
        "pruned": (
            "Unpromising trials stopped early, at most eight trained together",
            {
                "workload": "digits-mlp",
                "arms": ["adamp", "adamw"],
                "budget": {"trials_per_arm": 27, "epochs": 9},
                "pruner": {"kind": "asha", "min_epochs": 1, "reduction_factor": 3},
                "resources": {"max_pack_size": 8},
            },
        ),
        "full": (
            "Your own spaces, names and settings",
            {
                "name": "AdamP against AdamW on digits",
                "workload": "digits-mlp",
                "arms": [
                    {
                        "optimizer": "adamp",
                        "space": {
                            "lr": {"low": 1e-4, "high": 1e-1, "log": True},
                            "betas": [0.9, 0.99],
                            "weight_decay": "tune",
                        },
                    },
                    {
                        "optimizer": "adamw",
                        "name": "adamw-narrow",
                        "space": {"lr": {"choices": [1e-3, 1e-2]}, "weight_decay": 0.01},
                    },
                ],
                "budget": {"trials_per_arm": 12, "epochs": 5},
                "sampler": "tpe",
                "seed": 1,
            },
        ),
    },
    is_required=True,
)
_VERBS = {
    StudyMove.PAUSE: ("Pause a study", "Start no more trials; running trials are finished."),
    StudyMove.RESUME: ("Resume a paused study", "Continue where the study was paused."),
    StudyMove.STOP: (
        "Stop a study early",
        "End the running trials now and store them as cancelled; the study is completed with what it has.",
    ),
    StudyMove.CANCEL: (
        "Cancel a study",
        "End the running trials now and store them as cancelled; the study is cancelled.",
    ),
}


class StudyQuery(StudyListQuery):
    """Which studies to list."""

    page_size: int = Field(default=50, ge=1, le=500, description="Most studies on the page.")
    page_token: PageToken = None


def submit_response(
    request: Request, spec: StudySpec, *, by: Actor, idempotency_key: str | None, validate_only: bool
) -> Response:
    """Submit a study, or only check it, and return the response.

    Raises:
        SpecInvalid, CatalogEmpty, IdempotencyConflict, QuotaExceeded: the study is refused.
    """
    store: Store = request.app.state.store
    if validate_only:
        status: ClusterStatus = request.app.state.cluster
        plan = StudyPlan.of(spec, resolve(spec, store.catalog()), machines=status.read(store))
        return json_response(plan)
    view = store.submit(spec, by=by, idempotency_key=idempotency_key)
    return study_response(view, status=201, headers={"location": f"/v1/studies/{view.id}"})


def _add_submission(router: APIRouter) -> None:
    @router.post(
        "/studies",
        status_code=201,
        response_model=StudyView,
        summary="Submit a study",
        response_description="The study is stored and queued; `Location` is its path.",
        openapi_extra=_STUDY_BODY,
        responses={
            200: {
                "model": StudyPlan,
                "description": "With `validate_only`: what the study would do. Nothing was stored.",
            },
            201: {"headers": {**LOCATION, **ETAG}},
            **problem_responses(
                *BODY_FAULTS,
                errors.IDEMPOTENCY_CONFLICT,
                errors.CATALOG_EMPTY,
                errors.CROSS_SITE,
                errors.QUOTA_EXCEEDED,
            ),
        },
    )
    def submit_study(
        request: Request,
        caller: CurrentActor,
        spec: StudyBody,
        idempotency_key: IdempotencyKey = None,
        validate_only: ValidateOnly = False,  # noqa: FBT002 # a query parameter, given by name
    ) -> Response:
        """Check a study against the catalogue and queue it.

        The response to an invalid study lists every fault, not only the first.
        """
        return submit_response(
            request,
            spec,
            by=caller,
            idempotency_key=idempotency_key,
            validate_only=validate_only,
        )

    _ = submit_study


def _add_reads(router: APIRouter) -> None:
    @router.get(
        "/studies",
        response_model=Page[StudySummary],
        summary="Studies",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_studies(request: Request, query: Annotated[StudyQuery, Query()]) -> Response:
        """Return a page of studies, by default newest first."""
        store: Store = request.app.state.store
        page = store.studies(query.chosen, page_size=query.page_size, page_token=query.page_token)
        return json_response(page)

    @router.get(
        "/studies/{study_id}",
        response_model=StudyView,
        summary="One study",
        responses={
            200: {"headers": ETAG},
            304: {"description": "The copy named in `If-None-Match` is current.", "headers": ETAG},
            **problem_responses(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID),
        },
    )
    def get_study(request: Request, study_id: StudyId, if_none_match: IfNoneMatch = None) -> Response:
        """Return a study with its progress."""
        store: Store = request.app.state.store
        cache: ClosedStudyCache = request.app.state.closed_studies

        def write() -> bytes:
            view = store.study(study_id)
            # The version comes first, because the ETag needs both.
            return f"{view.version}\n{view.model_dump_json()}".encode()

        version, _, body = cache.get_or_write(study_id, "study", write).partition(b"\n")
        headers = {"etag": etag_of(int(version), body)}
        if matches_etag(if_none_match, headers["etag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    @router.get(
        "/studies/{study_id}/arms",
        response_model=Page[ArmView],
        summary="A study's arms",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def list_arms(request: Request, study_id: StudyId) -> Response:
        """Return a study's arms in order, on one page.

        Each has its space, progress and best trial, and its stack width on each device.
        """
        store: Store = request.app.state.store
        return cached_response(
            request, study_id, "arms", lambda: one_page(Page[ArmView], store.arms(study_id))
        )

    @router.get(
        "/studies/{study_id}/best",
        response_model=Page[ArmBest],
        summary="Best of each arm",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def list_best(request: Request, study_id: StudyId) -> Response:
        """Return each arm's best configuration by validation value, on one page.

        Each comes with Python code that builds the optimizer.
        """
        store: Store = request.app.state.store

        def best() -> Page[ArmBest]:
            return one_page(
                Page[ArmBest],
                tuple(
                    ArmBest(arm=arm.name, optimizer=arm.optimizer.name, best=arm.best)
                    for arm in store.arms(study_id)
                ),
            )

        return cached_response(request, study_id, "best", best)

    @router.get(
        "/studies/{study_id}/curves",
        response_model=Page[Curve],
        summary="Best so far of each arm",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def list_curves(request: Request, study_id: StudyId) -> Response:
        """Return each arm's best validation value so far, by trials and by training seconds, on one page."""
        store: Store = request.app.state.store
        return cached_response(
            request, study_id, "curves", lambda: one_page(Page[Curve], store.curves(study_id))
        )

    @router.get(
        "/studies/{study_id}/live",
        response_model=LiveStudy,
        summary="What a study does now",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def get_live(request: Request, study_id: StudyId) -> Response:
        """Return the trials in training with their curves, the packs on workers, and the time left.

        Also all trials by state and epochs done, and the last failures with what their workers printed.
        """
        store: Store = request.app.state.store
        return cached_response(request, study_id, "live", lambda: store.live(study_id))

    _ = list_studies, get_study, list_arms, list_best, list_curves, get_live


def _make_move_route(verb: StudyMove, description: str) -> Callable[..., Response]:
    def move(request: Request, caller: CurrentActor, study_id: StudyId, if_match: IfMatch = None) -> Response:
        store: Store = request.app.state.store
        return study_response(store.move(study_id, verb, by=caller, if_version=version_in(if_match)))

    move.__name__ = f"{verb.value}_study"
    move.__doc__ = description
    return move


def study_router() -> APIRouter:
    """Return the routes of studies."""
    router = APIRouter(tags=["studies"], route_class=WriteRoute)
    _add_submission(router)
    # Before the reads, because the path of a verb also matches theirs.
    for verb, (summary, description) in _VERBS.items():
        router.add_api_route(
            f"/studies/{{study_id}}:{verb.value}",
            _make_move_route(verb, description),
            methods=["POST"],
            response_model=StudyView,
            summary=summary,
            responses={
                200: {"description": "The study after the change.", "headers": ETAG},
                **problem_responses(
                    errors.STUDY_NOT_FOUND,
                    errors.ILLEGAL_MOVE,
                    errors.VERSION_CONFLICT,
                    errors.PARAMETER_INVALID,
                    errors.CROSS_SITE,
                    errors.NOT_OWNER,
                    *((errors.QUOTA_EXCEEDED,) if verb is StudyMove.RESUME else ()),
                ),
            },
        )
    _add_reads(router)
    return router
