"""The caller's account, and the audit log."""

__all__ = ["AuditQuery", "account_router"]

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from service import errors
from service.api.openapi import problem_responses
from service.api.parameters import STUDY_ID, PageToken
from service.auth import CurrentActor, CurrentAdmin
from service.schemas import Account
from studies.frozen_model import FrozenModel
from studies.store import Store
from studies.views import AuditVerb, AuditView, Page


class AuditQuery(FrozenModel):
    """Which entries of the audit log to list."""

    actor: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Only actions of this token.",
        examples=["alice"],
    )
    verb: AuditVerb | None = Field(default=None, description="Only this action.")
    study_id: str | None = Field(
        default=None,
        pattern=STUDY_ID,
        description="Only actions on this study.",
        examples=["k3f9x2db"],
    )
    page_size: int = Field(default=100, ge=1, le=500, description="Most entries on the page.")
    page_token: PageToken = None


def account_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["users"])

    @router.get(
        "/account", response_model=Account, summary="The caller's account", responses=problem_responses()
    )
    def get_account(request: Request, actor: CurrentActor) -> Account:
        """Return the caller's role, and their token with its quotas and their use."""
        store: Store = request.app.state.store
        return Account(role=actor.role, token=None if actor.name is None else store.token(actor.name))

    @router.get(
        "/audit",
        response_model=Page[AuditView],
        summary="The audit log, newest first",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_audit(
        request: Request, _admin: CurrentAdmin, query: Annotated[AuditQuery, Query()]
    ) -> Page[AuditView]:
        """Return a page of the audit log. Only for admins.

        It records who submitted and changed studies, created and revoked tokens and logged in, and from
        which address.
        """
        store: Store = request.app.state.store
        return store.audit(
            actor=query.actor,
            verb=query.verb,
            study_id=query.study_id,
            page_size=query.page_size,
            page_token=query.page_token,
        )

    _ = get_account, list_audit
    return router
