"""/problems: what each kind of problem means and what to do about it. The `type` of a problem leads here."""

__all__ = ["problem_router"]

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import HTMLResponse

from service import errors
from service.api.openapi import problem_responses
from service.errors import ProblemKind
from service.exception_handlers import ErrorPages, not_found_response, wants_html
from service.public_address import root_path
from service.schemas import ProblemKindView


def _view(kind: ProblemKind) -> ProblemKindView:
    return ProblemKindView(
        type=f"{root_path()}{kind.type}",
        title=kind.title,
        status=kind.status,
        advice=kind.advice,
        example=kind.example,
    )


def problem_router() -> APIRouter:
    """Return the routes, which need no token."""
    router = APIRouter(prefix="/problems", tags=["problems"])

    @router.get(
        "",
        response_model=tuple[ProblemKindView, ...],
        summary="Every kind of problem",
        responses=problem_responses(is_open=True),
    )
    async def list_problem_kinds() -> tuple[ProblemKindView, ...]:
        """Return every kind of problem that this service responds with."""
        return tuple(_view(kind) for kind in errors.KINDS.values())

    @router.get(
        "/{slug}",
        response_model=ProblemKindView,
        summary="One kind of problem, explained",
        responses=problem_responses(errors.NOT_FOUND, is_open=True),
    )
    async def get_problem_kind(
        request: Request,
        slug: Annotated[str, Path(pattern=r"^[a-z-]{1,64}$", description="Last part of a problem's `type`.")],
    ) -> Response:
        """Return what a kind of problem means and what to do: a page for browsers, JSON for programs."""
        kind = errors.KINDS.get(slug)
        if kind is None:
            return not_found_response(request)
        if wants_html(request):
            pages: ErrorPages = request.app.state.error_pages
            example = f"For example: {kind.example}"
            return HTMLResponse(pages.problem(kind.title, kind.advice, example, f"HTTP {kind.status}"))
        return Response(_view(kind).model_dump_json(), media_type="application/json")

    _ = list_problem_kinds, get_problem_kind
    return router
