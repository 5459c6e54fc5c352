"""Analyses of a study, of a suite, and of arms of one workload side by side."""

__all__ = ["ComparisonQuery", "analysis_router"]

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from service import errors
from service.analysis_cache import AnalysisCache
from service.api.openapi import problem_responses
from service.api.parameters import NAME, STUDY_ID, StudyId
from service.api.responses import analysis_response, one_page
from service.auth import caller_of
from service.chosen_arms import ARM_ID, MAX_ARMS, MAX_COMPARED, ChosenArms
from service.errors import ProblemKind
from service.schemas import StudyPhrase
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.power_views import StudyPower
from studies.analysis.views import StudyAnalysis
from studies.frozen_model import FrozenModel
from studies.store import Store
from studies.views import Page, SuiteSummary

SuiteName = Annotated[str, Path(pattern=NAME, description="Name of a suite.", examples=["small-vision"])]


class ComparisonQuery(FrozenModel):
    """Which studies and arms to compare."""

    study: list[Annotated[str, Field(pattern=STUDY_ID)]] = Field(
        default_factory=list[str],
        max_length=MAX_COMPARED,
        description=(
            "Id of a study, all of whose arms are compared. Repeat it for each study; all must have the same "
            "workload."
        ),
        examples=[["k3f9x2db", "w7c4m9zt"]],
    )
    arm: list[Annotated[str, Field(pattern=ARM_ID)]] = Field(
        default_factory=list[str],
        max_length=MAX_ARMS,
        description=(
            "A single arm: the study's id and the arm's name, joined by a dot. Repeat it for each arm. At "
            "least two studies or arms are needed."
        ),
        examples=[["k3f9x2db.adamp", "w7c4m9zt.adamw"]],
    )


class PhraseQuery(FrozenModel):
    """Whose verdicts to return."""

    study: list[Annotated[str, Field(pattern=STUDY_ID)]] = Field(
        min_length=1,
        max_length=100,
        description="Id of a study. Repeat it for each study.",
        examples=[["k3f9x2db", "w7c4m9zt"]],
    )


_AGE = {
    "Age": {
        "description": "Seconds since the studies were read; absent if the analysis is current.",
        "schema": {"type": "integer", "minimum": 1},
    }
}


def _answers(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    return {200: {"headers": _AGE}, **problem_responses(*kinds, errors.ANALYSIS_PENDING)}


def analysis_router() -> APIRouter:
    """Return the routes of analyses."""
    router = APIRouter(tags=["analysis"])

    @router.get(
        "/studies/{study_id}/analysis",
        response_model=StudyAnalysis,
        summary="Analysis of a study",
        responses=_answers(errors.STUDY_NOT_FOUND),
    )
    async def get_analysis(request: Request, study_id: StudyId) -> Response:
        """Return the verdict for every pair of arms with its interval.

        The analysis also has budget curves, checks, sensitivity and time to target.

        With paired trials, `by_budget` says which optimizer is better after k trials of tuning, and `pairs`
        which of the best configurations is better. Without, `pairs` is the verdict on the optimizers. `pairs`
        uses only runs on fresh seeds, never the best values of the search. docs/statistics.md explains each
        number, and docs/report.md has an example.

        The analysis of an open study is computed again while it changes, and the latest one is returned
        meanwhile: `age_s` and the header `Age` say how far it is behind. That of a closed study is current.
        """
        analyses: AnalysisCache = request.app.state.analyses
        return await analyses.run_limited(
            lambda: analysis_response(analyses.study(study_id)), caller=caller_of(request)
        )

    @router.get(
        "/studies/{study_id}/power",
        response_model=StudyPower,
        summary="What a study could have detected",
        responses=problem_responses(errors.STUDY_NOT_FOUND, errors.ANALYSIS_PENDING),
    )
    async def get_power(request: Request, study_id: StudyId) -> StudyPower:
        """Return the gap between two optimizers that the study could have detected with 80 % chance.

        The answer also has the pairs of trials that detect half of it, with their training seconds. Without a
        budget verdict it says why there are no figures.
        """
        analyses: AnalysisCache = request.app.state.analyses
        return await analyses.run_limited(lambda: analyses.power(study_id), caller=caller_of(request))

    @router.get("/suites", response_model=Page[SuiteSummary], summary="Suites", responses=problem_responses())
    def list_suites(request: Request) -> Page[SuiteSummary]:
        """Return all suites, on one page. A suite is a label that studies of several workloads share."""
        store: Store = request.app.state.store
        return one_page(Page[SuiteSummary], store.suites())

    @router.get(
        "/suites/{suite_name}",
        response_model=SuiteAnalysis,
        summary="Analysis of a suite",
        responses=_answers(errors.SUITE_NOT_FOUND, errors.CONFLICT),
    )
    async def get_suite(request: Request, suite_name: SuiteName) -> Response:
        """Return the comparison of the arms that a suite's studies have in common, across their workloads."""
        analyses: AnalysisCache = request.app.state.analyses
        return await analyses.run_limited(
            lambda: analysis_response(analyses.suite(suite_name)), caller=caller_of(request)
        )

    @router.get(
        "/comparison",
        response_model=Comparison,
        summary="Arms of one workload, side by side",
        responses=_answers(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID),
    )
    async def get_comparison(request: Request, query: Annotated[ComparisonQuery, Query()]) -> Response:
        """Return all arms of several studies, or chosen arms, of one workload.

        The comparison has the best configuration and the budget curve of each arm, a verdict for every pair
        of arms, and a caution for each difference between the studies.
        """
        analyses: AnalysisCache = request.app.state.analyses
        chosen = ChosenArms.of(query.study, query.arm)
        return await analyses.run_limited(
            lambda: analysis_response(analyses.comparison(chosen)), caller=caller_of(request)
        )

    @router.get(
        "/verdicts",
        response_model=Page[StudyPhrase],
        summary="Verdicts in a phrase",
        responses=problem_responses(errors.PARAMETER_INVALID),
    )
    def list_phrases(request: Request, query: Annotated[PhraseQuery, Query()]) -> Page[StudyPhrase]:
        """Return the verdicts of several studies in a phrase, as the list of studies shows them, on one page.

        A study that the service has not analysed yet is left out, and is analysed in the background.
        """
        analyses: AnalysisCache = request.app.state.analyses
        found = analyses.phrases.of(query.study)
        items = tuple(StudyPhrase(study_id=study_id, verdict=found[study_id]) for study_id in found)
        return one_page(Page[StudyPhrase], items)

    _ = get_analysis, get_power, list_suites, get_suite, get_comparison, list_phrases
    return router
