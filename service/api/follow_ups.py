"""Follow-ups of a study: confirm it on more seeds, extend it, or clone it."""

__all__ = ["follow_up_router"]

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from service import errors
from service.api.bodies import ExtensionBody, PatchBody, SeedsBody
from service.api.etags import version_in
from service.api.openapi import BODY_FAULTS, body_description, problem_responses
from service.api.parameters import ETAG, LOCATION, IdempotencyKey, IfMatch, StudyId, ValidateOnly
from service.api.responses import json_response, study_response
from service.api.studies import submit_response
from service.auth import CurrentActor
from service.body_parsers import body_parsers
from service.cloning import clone_spec
from service.schemas import StudyPlan
from service.write_threads import WriteRoute
from studies.extension import more_seeds
from studies.spec import StudySpec
from studies.store import Store
from studies.views import StudyView

_FOLLOW_UP_FAULTS = (
    errors.STUDY_NOT_FOUND,
    errors.ILLEGAL_MOVE,
    errors.VERSION_CONFLICT,
    *BODY_FAULTS,
    errors.CROSS_SITE,
    errors.NOT_OWNER,
    errors.QUOTA_EXCEEDED,
)
_PLAN = {
    "model": StudyPlan,
    "description": "With `validate_only`: what the study would do in total. Nothing was stored.",
}
_EXTENSION = body_description(
    "What the study should have in total; fields that are left out do not change.",
    {"$ref": "#/components/schemas/Extension-Input"},
    {
        "arm": ("One more arm", {"arms": ["adamp"]}),
        "trials": ("More trials for every arm", {"trials_per_arm": 24}),
        "all": (
            "Everything at once",
            {
                "arms": [{"optimizer": "adamp", "name": "adamp-2"}],
                "trials_per_arm": 24,
                "replicates": 3,
                "seeds": 10,
            },
        ),
    },
    is_required=True,
)
_SEEDS = body_description(
    "The total number of seeds; optional.",
    {"$ref": "#/components/schemas/MoreSeeds-Input"},
    {"default": ("Five more than now", {}), "given": ("Ten in total", {"seeds": 10})},
)
_PATCH = body_description(
    "A JSON merge patch (RFC 7396) for the study's `spec`: fields to set, and null for fields to remove. A "
    "list replaces the old list, and objects are merged; so set `pruner` to a name (`median`) instead of "
    "changing the `kind` of the old one. Without a body the clone has the same spec.",
    {"type": "object", "additionalProperties": True},
    {
        "seed": ("The same study with another seed", {"seed": 1}),
        "workload": (
            "The same comparison on another workload",
            {"workload": "digits-mlp", "name": None, "budget": {"epochs": 2}},
        ),
    },
    types=("application/merge-patch+json", "application/json", "application/yaml"),
)


def _add_confirm(router: APIRouter) -> None:
    @router.post(
        "/studies/{study_id}:confirm",
        response_model=StudyView,
        summary="Confirm a study on more seeds",
        response_description="The study, queued again.",
        openapi_extra=_SEEDS,
        responses={200: {"headers": ETAG}, **problem_responses(*_FOLLOW_UP_FAULTS)},
    )
    def confirm_study(
        request: Request,
        caller: CurrentActor,
        study_id: StudyId,
        seeds: SeedsBody,
        if_match: IfMatch = None,
    ) -> Response:
        """Train each arm's best and default configurations on more fresh seeds.

        More seeds make the verdict more certain. The study must be completed.
        """
        store: Store = request.app.state.store
        extension = more_seeds(store.study(study_id).spec, seeds=seeds)
        return study_response(store.extend(study_id, extension, by=caller, if_version=version_in(if_match)))

    _ = confirm_study


def _add_extend(router: APIRouter) -> None:
    @router.post(
        "/studies/{study_id}:extend",
        response_model=StudyView | StudyPlan,
        summary="Add arms, trials, replicates or seeds to a study",
        response_description="The study, queued again; or with `validate_only` what it would do.",
        openapi_extra=_EXTENSION,
        responses={
            200: {"headers": ETAG},
            **problem_responses(*_FOLLOW_UP_FAULTS, errors.CATALOG_EMPTY),
        },
    )
    def extend_study(
        request: Request,
        caller: CurrentActor,
        study_id: StudyId,
        extension: ExtensionBody,
        if_match: IfMatch = None,
        validate_only: ValidateOnly = False,  # noqa: FBT002 # a query parameter, given by name
    ) -> Response:
        """Extend a completed study: its trials remain, and the search continues where it ended."""
        store: Store = request.app.state.store
        if validate_only:
            return json_response(StudyPlan.of(*store.plan_extension(study_id, extension)))
        return study_response(store.extend(study_id, extension, by=caller, if_version=version_in(if_match)))

    _ = extend_study


async def _cloned_spec(request: Request, study_id: StudyId, patch: PatchBody) -> StudySpec:
    """Return the spec of the study with the patch in the body applied."""
    store: Store = request.app.state.store
    study = await run_in_threadpool(store.study, study_id)
    return await body_parsers(request).run(lambda: clone_spec(study.spec, patch))


def _add_clone(router: APIRouter) -> None:
    @router.post(
        "/studies/{study_id}:clone",
        status_code=201,
        response_model=StudyView,
        summary="Create a new study from another's spec",
        response_description="The clone is stored and queued; `Location` is its path.",
        openapi_extra=_PATCH,
        responses={
            200: _PLAN,
            201: {"headers": {**LOCATION, **ETAG}},
            **problem_responses(
                errors.STUDY_NOT_FOUND,
                *BODY_FAULTS,
                errors.IDEMPOTENCY_CONFLICT,
                errors.CATALOG_EMPTY,
                errors.CROSS_SITE,
                errors.QUOTA_EXCEEDED,
            ),
        },
    )
    def clone_study(
        request: Request,
        caller: CurrentActor,
        spec: Annotated[StudySpec, Depends(_cloned_spec)],
        idempotency_key: IdempotencyKey = None,
        validate_only: ValidateOnly = False,  # noqa: FBT002 # a query parameter, given by name
    ) -> Response:
        """Submit the spec of a study in any state again, with a merge patch applied.

        It is checked against the current catalogue.
        """
        return submit_response(
            request,
            spec,
            by=caller,
            idempotency_key=idempotency_key,
            validate_only=validate_only,
        )

    _ = clone_study


def follow_up_router() -> APIRouter:
    """Return the routes of follow-ups."""
    router = APIRouter(tags=["studies"], route_class=WriteRoute)
    _add_confirm(router)
    _add_extend(router)
    _add_clone(router)
    return router
