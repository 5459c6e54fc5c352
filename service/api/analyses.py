"""What studies found: one by itself, those of a suite together, several of one workload side by side."""

__all__ = ["ComparisonQuery", "analysis_router"]

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service import errors
from service.analysis_cache import MAX_COMPARED, AnalysisCache
from service.api.openapi import problem_responses
from service.api.studies import SLUG, StudyId
from service.auth import caller_of
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.views import StudyAnalysis
from studies.store import Store
from studies.views import Page, SuiteSummary

SuiteName = Annotated[str, Path(pattern=SLUG, description="Name of a suite.", examples=["small-vision"])]


class ComparisonQuery(BaseModel):
    """Which studies to compare."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: list[Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$")]] = Field(
        min_length=2,
        max_length=MAX_COMPARED,
        description="Id of a study; once for each, all of one workload.",
        examples=[["k3f9x2db", "w7c4m9zt"]],
    )


def _written(analysis: BaseModel) -> Response:
    # By pydantic itself, which writes null for what no JSON number can be.
    return Response(analysis.model_dump_json(), media_type="application/json")


def analysis_router() -> APIRouter:
    """Return the routes of analyses."""
    router = APIRouter(tags=["analysis"])

    @router.get(
        "/studies/{study_id}/analysis",
        response_model=StudyAnalysis,
        summary="What a study found",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    async def get_analysis(request: Request, study_id: StudyId) -> Response:
        """Return the verdict for every pair of arms with its interval.

        Also budget curves, checks, sensitivity and time to target.

        The verdict rests on runs on fresh seeds alone, never on the search's own best values. What each
        number means is in docs/statistics.md.
        """
        analyses: AnalysisCache = request.app.state.analyses
        return await analyses.run_limited(
            lambda: _written(analyses.study(study_id)), caller=caller_of(request)
        )

    @router.get("/suites", response_model=Page[SuiteSummary], summary="Suites", responses=problem_responses())
    def list_suites(request: Request) -> Page[SuiteSummary]:
        """Return the suites, on one page: labels that studies of several workloads share."""
        store: Store = request.app.state.store
        found = store.suites()
        return Page[SuiteSummary](items=found, next_page_token=None, total=len(found))

    @router.get(
        "/suites/{suite_name}",
        response_model=SuiteAnalysis,
        summary="What a suite found",
        responses=problem_responses(errors.SUITE_NOT_FOUND, errors.CONFLICT),
    )
    async def get_suite(request: Request, suite_name: SuiteName) -> Response:
        """Return what the studies of a suite say of the arms that they have in common.

        It covers all their workloads.
        """
        analyses: AnalysisCache = request.app.state.analyses
        return await analyses.run_limited(
            lambda: _written(analyses.suite(suite_name)), caller=caller_of(request)
        )

    @router.get(
        "/comparison",
        response_model=Comparison,
        summary="Studies of one workload, side by side",
        responses=problem_responses(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID),
    )
    async def get_comparison(request: Request, query: Annotated[ComparisonQuery, Query()]) -> Response:
        """Return the arms of several studies of one workload.

        With a verdict for every pair and a caution for all in which the studies differ.
        """
        analyses: AnalysisCache = request.app.state.analyses
        return await analyses.run_limited(
            lambda: _written(analyses.comparison(query.study)), caller=caller_of(request)
        )

    _ = get_analysis, list_suites, get_suite, get_comparison
    return router
