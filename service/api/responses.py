"""Responses that several routes share."""

__all__ = [
    "analysis_response",
    "cached_response",
    "json_response",
    "one_page",
    "study_response",
]

from collections.abc import Callable, Hashable
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from service.api.etags import etag_of
from service.cache_entry import age_headers
from service.closed_study_cache import ClosedStudyCache
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.views import StudyAnalysis
from studies.views import Page, StudyView

_T = TypeVar("_T")


def json_response(value: BaseModel) -> Response:
    """Return a value as JSON, written by pydantic, which writes null for numbers that JSON cannot express."""
    return Response(value.model_dump_json(), media_type="application/json")


def analysis_response(analysis: StudyAnalysis | SuiteAnalysis | Comparison) -> Response:
    """Return an analysis as JSON, with its age as a header too."""
    return Response(
        analysis.model_dump_json(), media_type="application/json", headers=age_headers(analysis.age_s)
    )


def study_response(view: StudyView, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a study with its ETag."""
    body = view.model_dump_json().encode()
    return Response(
        body,
        status_code=status,
        media_type="application/json",
        headers={"etag": etag_of(view.version, body), **(headers or {})},
    )


def cached_response(
    request: Request, study_id: str, key: Hashable, read: Callable[[], BaseModel]
) -> Response:
    """Return a value about a study as JSON, from the cache if the study is closed.

    Args:
        request: the request.
        study_id: the study.
        key: distinguishes this value from others about the study.
        read: reads the value.
    """
    cache: ClosedStudyCache = request.app.state.closed_studies
    body = cache.get_or_write(study_id, key, lambda: read().model_dump_json().encode())
    return Response(body, media_type="application/json")


def one_page(kind: type[Page[_T]], items: tuple[_T, ...]) -> Page[_T]:
    """Return all items as a single page."""
    return kind(items=items, next_page_token=None, total=len(items))
