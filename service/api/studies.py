"""Studies: submit, look at, pause, resume, stop and cancel them."""

__all__ = [
    "ETAG",
    "LOCATION",
    "SLUG",
    "IdempotencyKey",
    "IfMatch",
    "PageToken",
    "StudyId",
    "StudyQuery",
    "ValidateOnly",
    "cached_response",
    "plan_response",
    "study_response",
    "study_router",
    "submit_response",
]

from collections.abc import Callable, Hashable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import errors
from service.api.bodies import StudyBody
from service.api.etags import IF_MATCH, etag_of, matches_etag, version_in
from service.api.openapi import problem_responses
from service.auth import CurrentActor
from service.closed_study_cache import ClosedStudyCache
from service.schemas import ArmBest, StudyPlan
from studies.actors import Actor
from studies.resolve import resolve
from studies.spec import StudySpec
from studies.states import StudyMove, StudyState
from studies.store import Store
from studies.views import ArmView, Curve, Page, StudySummary, StudyView

_T = TypeVar("_T")
SLUG = r"^[a-z0-9][a-z0-9-]{0,63}$"
"""Names of workloads, arms and suites."""

StudyId = Annotated[
    str, Path(pattern=r"^[a-z0-9]{1,16}$", description="Id of a study.", examples=["k3f9x2db"])
]
PageToken = Annotated[
    str | None,
    Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=r"^[\x21-\x7e]+$",
        description="The last page's `next_page_token`; leave it out to begin.",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description=(
            "Any text, new for each study: the same key with the same body returns the study it made, so "
            "that a request can be sent again."
        ),
        examples=["5b1f1f8e-7d0f-4c57-9c0e-3b5b8f0e2a11"],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        pattern=IF_MATCH,
        description=(
            "ETag of the study as it was read, or only its version; refused when its state changed "
            "since. Progress alone is no change."
        ),
        examples=['"3"'],
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(max_length=2000, description="ETag of the copy at hand: 304 when it is still right.")
]

ValidateOnly = Annotated[
    bool, Query(description="Only check what was sent and say what would be done; store nothing.")
]

LOCATION = {"Location": {"description": "Path of the study.", "schema": {"type": "string"}}}
ETAG = {
    "ETag": {
        "description": "Changes with the study; send it back in `If-Match` or `If-None-Match`.",
        "schema": {"type": "string"},
    }
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The study; an arm may be just an optimizer's name, a dimension just a value.",
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/StudySpec-Input"},
                "examples": {
                    "short": {
                        "summary": "Shorthands: each arm searches what its card says",
                        "value": {
                            "workload": "digits-mlp",
                            "arms": ["adamp", "adamw"],
                            "budget": {"trials_per_arm": 8},
                        },
                    },
                    "pruned": {
                        "summary": "Hopeless trials stopped early, at most eight trained together",
                        "value": {
                            "workload": "digits-mlp",
                            "arms": ["adamp", "adamw"],
                            "budget": {"trials_per_arm": 27, "epochs": 9},
                            "pruner": {"kind": "asha", "min_epochs": 1, "reduction_factor": 3},
                            "resources": {"max_pack_size": 8},
                        },
                    },
                    "full": {
                        "summary": "Spaces, names and settings of one's own",
                        "value": {
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
                    },
                },
            }
        },
    }
}
_VERBS = {
    StudyMove.PAUSE: ("Pause a study", "Start no more of its trials; those being trained are finished."),
    StudyMove.RESUME: ("Resume a paused study", "Go on where it was paused."),
    StudyMove.STOP: (
        "Stop a study early",
        "End its trials now and record them as cancelled; the study is completed with what it has.",
    ),
    StudyMove.CANCEL: (
        "Cancel a study",
        "End its trials now and record them as cancelled; the study is cancelled.",
    ),
}


class StudyQuery(BaseModel):
    """Which studies to list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: StudyState | None = Field(default=None, description="Only those in this state.")
    workload: str | None = Field(
        default=None, pattern=SLUG, description="Only those on this workload.", examples=["digits-mlp"]
    )
    suite: str | None = Field(
        default=None, pattern=SLUG, description="Only those of this suite.", examples=["small-vision"]
    )
    page_size: int = Field(default=50, ge=1, le=500, description="At most so many.")
    page_token: PageToken = None


def study_response(view: StudyView, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return the answer that carries a study, its tag with it."""
    return _tagged(view.version, view.model_dump_json().encode(), status=status, headers=headers)


def _tagged(
    version: int, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={"etag": etag_of(version, body), **(headers or {})},
    )


def plan_response(plan: StudyPlan) -> Response:
    """Return what `validate_only` is answered with."""
    return Response(plan.model_dump_json(), media_type="application/json")


def cached_response(
    request: Request, study_id: str, what: Hashable, read: Callable[[], BaseModel]
) -> Response:
    """Return the answer with what is read of a study.

    It is read and written once where the study is closed.
    """
    cache: ClosedStudyCache = request.app.state.closed_studies
    body = cache.get_or_write(study_id, what, lambda: read().model_dump_json().encode())
    return Response(body, media_type="application/json")


def _one_page(kind: type[Page[_T]], found: tuple[_T, ...]) -> Page[_T]:
    return kind(items=found, next_page_token=None, total=len(found))


def submit_response(
    store: Store, spec: StudySpec, *, by: Actor, idempotency_key: str | None, validate_only: bool
) -> Response:
    """Return the answer to a study that is to be submitted, or only checked.

    Raises:
        SpecInvalid, CatalogEmpty, IdempotencyConflict, QuotaExceeded: it is refused.
    """
    if validate_only:
        return plan_response(StudyPlan.of(spec, resolve(spec, store.catalog())))
    view = store.submit(spec, by=by, idempotency_key=idempotency_key)
    return study_response(view, status=201, headers={"location": f"/v1/studies/{view.id}"})


def _add_submission(router: APIRouter) -> None:
    @router.post(
        "/studies",
        status_code=201,
        response_model=StudyView,
        summary="Submit a study",
        response_description="The study is stored and queued; `Location` is its path.",
        openapi_extra=_BODY,
        responses={
            200: {
                "model": StudyPlan,
                "description": "With `validate_only`: what the study would do. Nothing was stored.",
            },
            201: {"headers": {**LOCATION, **ETAG}},
            **problem_responses(
                errors.NOT_JSON,
                errors.BODY_TOO_LARGE,
                errors.UNSUPPORTED_MEDIA_TYPE,
                errors.SPEC_INVALID,
                errors.PARAMETER_INVALID,
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

        A faulty study is answered with every fault in it, not only the first.
        """
        return submit_response(
            request.app.state.store,
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
        summary="Studies, newest first",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_studies(request: Request, query: Annotated[StudyQuery, Query()]) -> Page[StudySummary]:
        """Return a page of studies, newest first."""
        store: Store = request.app.state.store
        return store.studies(
            state=query.state,
            workload=query.workload,
            suite=query.suite,
            page_size=query.page_size,
            page_token=query.page_token,
        )

    @router.get(
        "/studies/{study_id}",
        response_model=StudyView,
        summary="One study",
        responses={
            200: {"headers": ETAG},
            304: {"description": "The copy named in `If-None-Match` is still right.", "headers": ETAG},
            **problem_responses(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID),
        },
    )
    def get_study(request: Request, study_id: StudyId, if_none_match: IfNoneMatch = None) -> Response:
        """Return a study with its progress."""
        store: Store = request.app.state.store
        answers: ClosedStudyCache = request.app.state.closed_studies

        def write() -> bytes:
            view = store.study(study_id)
            # The version before the body: its tag needs both.
            return f"{view.version}\n{view.model_dump_json()}".encode()

        version, _, body = answers.get_or_write(study_id, "study", write).partition(b"\n")
        answer = _tagged(int(version), body)
        etag = answer.headers["etag"]
        return (
            Response(status_code=304, headers={"etag": etag}) if matches_etag(if_none_match, etag) else answer
        )

    @router.get(
        "/studies/{study_id}/arms",
        response_model=Page[ArmView],
        summary="A study's arms",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def list_arms(request: Request, study_id: StudyId) -> Response:
        """Return a study's arms in their order, on one page.

        Each with its space, progress and best trial, and how its trials fit on a device.
        """
        store: Store = request.app.state.store
        return cached_response(
            request, study_id, "arms", lambda: _one_page(Page[ArmView], store.arms(study_id))
        )

    @router.get(
        "/studies/{study_id}/best",
        response_model=Page[ArmBest],
        summary="Best of each arm",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def list_best(request: Request, study_id: StudyId) -> Response:
        """Return each arm's best configuration by validation, on one page.

        With each comes Python that builds the optimizer.
        """
        store: Store = request.app.state.store

        def best() -> Page[ArmBest]:
            return _one_page(
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
        """Return each arm's best validation value so far, on one page.

        It stands against trials and against training seconds.
        """
        store: Store = request.app.state.store
        return cached_response(
            request, study_id, "curves", lambda: _one_page(Page[Curve], store.curves(study_id))
        )

    _ = list_studies, get_study, list_arms, list_best, list_curves


def _mover(verb: StudyMove, explanation: str) -> Callable[..., Response]:
    def move(request: Request, caller: CurrentActor, study_id: StudyId, if_match: IfMatch = None) -> Response:
        store: Store = request.app.state.store
        return study_response(store.move(study_id, verb, by=caller, if_version=version_in(if_match)))

    move.__name__ = f"{verb.value}_study"
    move.__doc__ = explanation
    return move


def study_router() -> APIRouter:
    """Return the routes of studies."""
    router = APIRouter(tags=["studies"])
    _add_submission(router)
    # Before the reads: a verb's path would also fit theirs.
    for verb, (summary, explanation) in _VERBS.items():
        router.add_api_route(
            f"/studies/{{study_id}}:{verb.value}",
            _mover(verb, explanation),
            methods=["POST"],
            response_model=StudyView,
            summary=summary,
            responses={
                200: {"description": "The study after the move.", "headers": ETAG},
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
