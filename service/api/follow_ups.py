"""Going on from a study: confirm it on more seeds, extend it, or clone it into a new one."""

__all__ = ["follow_up_router"]

from typing import Any

from fastapi import APIRouter, Request, Response

from service import errors
from service.api.bodies import ExtensionBody, PatchBody, SeedsBody
from service.api.etags import version_in
from service.api.openapi import problem_responses
from service.api.studies import (
    ETAG,
    LOCATION,
    IdempotencyKey,
    IfMatch,
    StudyId,
    ValidateOnly,
    plan_response,
    study_response,
    submit_response,
)
from service.auth import CurrentActor
from service.cloning import clone_spec
from service.schemas import StudyPlan
from studies.extension import more_seeds
from studies.store import Store
from studies.views import StudyView

_BODY_FAULTS = (
    errors.NOT_JSON,
    errors.BODY_TOO_LARGE,
    errors.UNSUPPORTED_MEDIA_TYPE,
    errors.SPEC_INVALID,
    errors.PARAMETER_INVALID,
)
_GROWTH_FAULTS = (
    errors.STUDY_NOT_FOUND,
    errors.ILLEGAL_MOVE,
    errors.VERSION_CONFLICT,
    *_BODY_FAULTS,
    errors.CROSS_SITE,
    errors.NOT_OWNER,
    errors.QUOTA_EXCEEDED,
)
_PLANNED = {
    "model": StudyPlan,
    "description": "With `validate_only`: what the study would do in all. Nothing was stored.",
}


def _body(
    description: str,
    schema: dict[str, Any],
    examples: dict[str, tuple[str, Any]],
    *,
    types: tuple[str, ...] = ("application/json",),
    is_required: bool = False,
) -> Any:
    """Return the description of a body that is read by hand."""
    shown = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    content = {kind: {"schema": schema, "examples": shown} for kind in types}
    return {"requestBody": {"description": description, "required": is_required, "content": content}}


_EXTENSION = _body(
    "What the study is to have in all; what is left out stays as it is.",
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
_SEEDS = _body(
    "On how many seeds in all; may be left out.",
    {"$ref": "#/components/schemas/MoreSeeds-Input"},
    {"default": ("Five more than now", {}), "given": ("On ten in all", {"seeds": 10})},
)
_PATCH = _body(
    "A JSON merge patch (RFC 7396) over the study's `spec`: fields to set, null for those to "
    "leave out; a list takes the place of the other, and objects are merged: to have another "
    "`pruner`, name it (`median`) instead of changing the `kind` of the one there is. Without "
    "a body the clone is exactly alike.",
    {"type": "object", "additionalProperties": True},
    {
        "seed": ("Everything alike but the seed", {"seed": 1}),
        "workload": (
            "The same question on another workload",
            {"workload": "digits-mlp", "name": None, "budget": {"epochs": 2}},
        ),
    },
    types=("application/merge-patch+json", "application/json"),
)


def _add_confirm(router: APIRouter) -> None:
    @router.post(
        "/studies/{study_id}:confirm",
        response_model=StudyView,
        summary="Confirm a study on more seeds",
        response_description="The study, queued again.",
        openapi_extra=_SEEDS,
        responses={200: {"headers": ETAG}, **problem_responses(*_GROWTH_FAULTS)},
    )
    def confirm_study(
        request: Request,
        caller: CurrentActor,
        study_id: StudyId,
        seeds: SeedsBody,
        if_match: IfMatch = None,
    ) -> Response:
        """Train each arm's best configuration and its defaults on more fresh seeds.

        With them the verdict becomes surer. The study has to be completed.
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
        responses={200: {"headers": ETAG}, **problem_responses(*_GROWTH_FAULTS, errors.CATALOG_EMPTY)},
    )
    def extend_study(
        request: Request,
        caller: CurrentActor,
        study_id: StudyId,
        extension: ExtensionBody,
        if_match: IfMatch = None,
        validate_only: ValidateOnly = False,  # noqa: FBT002 # a query parameter, given by name
    ) -> Response:
        """Add to a completed study: what is there stays as it is, and the search goes on where it ended."""
        store: Store = request.app.state.store
        if validate_only:
            return plan_response(StudyPlan.of(*store.plan_extension(study_id, extension)))
        return study_response(store.extend(study_id, extension, by=caller, if_version=version_in(if_match)))

    _ = extend_study


def _add_clone(router: APIRouter) -> None:
    @router.post(
        "/studies/{study_id}:clone",
        status_code=201,
        response_model=StudyView,
        summary="Make a new study of another's spec",
        response_description="The clone is stored and queued; `Location` is its path.",
        openapi_extra=_PATCH,
        responses={
            200: _PLANNED,
            201: {"headers": {**LOCATION, **ETAG}},
            **problem_responses(
                errors.STUDY_NOT_FOUND,
                *_BODY_FAULTS,
                errors.IDEMPOTENCY_CONFLICT,
                errors.CATALOG_EMPTY,
                errors.CROSS_SITE,
                errors.QUOTA_EXCEEDED,
            ),
        },
    )
    def clone_study(
        request: Request,
        study_id: StudyId,
        caller: CurrentActor,
        patch: PatchBody,
        idempotency_key: IdempotencyKey = None,
        validate_only: ValidateOnly = False,  # noqa: FBT002 # a query parameter, given by name
    ) -> Response:
        """Submit a study's spec anew with a merge patch applied, whatever state that study is in.

        It is checked against the present catalogue.
        """
        store: Store = request.app.state.store
        spec = clone_spec(store.study(study_id).spec, patch)
        return submit_response(
            store, spec, by=caller, idempotency_key=idempotency_key, validate_only=validate_only
        )

    _ = clone_study


def follow_up_router() -> APIRouter:
    """Return the routes by which studies grow out of studies."""
    router = APIRouter(tags=["studies"])
    _add_confirm(router)
    _add_extend(router)
    _add_clone(router)
    return router
