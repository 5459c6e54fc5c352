"""A study to hand on: its report in several formats, and its bundle."""

__all__ = ["ReportFormat", "report_router"]

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from service import errors
from service.analysis_cache import AnalysisCache
from service.api.etags import etag_of, matches_etag
from service.api.openapi import problem_responses
from service.api.studies import StudyId
from service.auth import caller_of
from service.report.bundle_writer import write_bundle
from service.report.html import CONTENT_SECURITY_POLICY, html
from service.report.latex import latex
from service.report.manifest import bundle_name
from service.report.markdown import markdown
from service.report.study_report import StudyReport, report_of
from studies.store import Store

ReportFormat = Literal["json", "markdown", "html", "latex"]

_TYPES: dict[ReportFormat, str] = {
    "json": "application/json",
    "markdown": "text/markdown; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "latex": "application/x-tex; charset=utf-8",
}
_CHUNK = 1 << 18
_WEIGHT = re.compile(r"(?:^|;)\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)

Format = Annotated[
    ReportFormat | None,
    Query(alias="format", description="The format; left out, what `Accept` asks for, else JSON."),
]
IfNoneMatch = Annotated[
    str | None, Header(max_length=2000, description="ETag of the copy at hand: 304 when it is still right.")
]


def _accepted(accept: str) -> ReportFormat:
    """Return the format that an `Accept` header likes best, of several the first.

    JSON where it names none of them.
    """
    liked: dict[ReportFormat, float] = {}
    for part in accept.split(","):
        media, _, parameters = part.partition(";")
        asked: list[ReportFormat] = [
            name for name, known in _TYPES.items() if known.partition(";")[0] == media.strip().lower()
        ]
        liked |= {name: _weight(parameters) for name in asked}
    return max(liked, key=lambda name: liked[name]) if any(liked.values()) else "json"


def _weight(parameters: str) -> float:
    """Return the weight `q` among the parameters of a media type; 1 without one, or where it is none."""
    found = _WEIGHT.search(parameters)
    return 1.0 if found is None else float(found[1])


def _written(report: StudyReport, form: ReportFormat) -> str:
    match form:
        case "json":
            # By pydantic itself, which writes null for what no JSON number can be.
            return report.model_dump_json()
        case "markdown":
            return markdown(report)
        case "html":
            return html(report)
        case "latex":
            return latex(report)


def _report(request: Request, study_id: str) -> StudyReport:
    store: Store = request.app.state.store
    analyses: AnalysisCache = request.app.state.analyses
    # Arms are only ever added: read in this order, every arm that the analysis or the spec speaks of is among
    # them.
    analysis, study = analyses.study(study_id), store.study(study_id)
    return report_of(study, store.arms(study_id), analysis)


def _answered(report: StudyReport, form: ReportFormat, *, if_none_match: str | None) -> Response:
    body = _written(report, form).encode("utf-8", "replace")
    headers = {"etag": etag_of(report.study.version, body), "vary": "Accept"}
    if matches_etag(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    if form == "html":
        headers["content-security-policy"] = f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'"
    return Response(body, media_type=_TYPES[form], headers=headers)


def _bundled(store: Store, report: StudyReport) -> Response:
    # Written whole before its first byte is sent: a fault on the way is an answer, not half a file.
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        write_bundle(store, report, file)
        size = file.tell()
        file.seek(0)
        closing = stack.pop_all()
    name = bundle_name(report.study.id, report.study.name)
    headers = {"content-disposition": f'attachment; filename="{name}"', "content-length": str(size)}
    return StreamingResponse(_pieces(file, closing), media_type="application/zip", headers=headers)


def _pieces(file: IO[bytes], closing: ExitStack) -> Iterator[bytes]:
    with closing:
        while piece := file.read(_CHUNK):
            yield piece


def report_router() -> APIRouter:
    """Return the routes of reports and bundles."""
    router = APIRouter(tags=["analysis"])

    @router.get(
        "/studies/{study_id}/report",
        response_model=StudyReport,
        summary="A study's report",
        response_description="The report, in the format that was asked for.",
        responses={
            200: {
                "content": {
                    media.partition(";")[0]: {"schema": {"type": "string"}}
                    for name, media in _TYPES.items()
                    if name != "json"
                },
                "headers": {
                    "ETag": {
                        "description": "Changes with the report; send it back in `If-None-Match`.",
                        "schema": {"type": "string"},
                    }
                },
            },
            304: {"description": "The copy named in `If-None-Match` is still right."},
            **problem_responses(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID),
        },
    )
    async def get_report(
        request: Request, study_id: StudyId, form: Format = None, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Return what a study found and how it was done.

        The verdict, a paragraph on methods for a paper, configurations as Python to paste.

        Markdown suits an appendix or an issue; HTML is one file that needs nothing else, with its charts in
        it; LaTeX is a table (booktabs).
        """
        analyses: AnalysisCache = request.app.state.analyses
        chosen = form or _accepted(request.headers.get("accept", ""))
        return await analyses.run_limited(
            lambda: _answered(_report(request, study_id), chosen, if_none_match=if_none_match),
            caller=caller_of(request),
        )

    @router.get(
        "/studies/{study_id}/bundle",
        response_class=StreamingResponse,
        summary="A study's bundle",
        response_description="A zip file.",
        responses={
            200: {
                "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
                "headers": {
                    "Content-Disposition": {
                        "description": "Its name as a file.",
                        "schema": {"type": "string"},
                    }
                },
            },
            **problem_responses(errors.STUDY_NOT_FOUND),
        },
    )
    async def get_bundle(request: Request, study_id: StudyId) -> Response:
        """Return all that is needed to read a study without Tangent.

        It is also what it takes to run it again with `tangent replay`.

        A zip file of spec, plan, trials and measurements (Parquet and CSV), environment, seeds, version,
        analysis and report; its `manifest.json` has the SHA-256 of each. The bundle of a study that is still
        open holds what is there now.
        """
        analyses: AnalysisCache = request.app.state.analyses
        report = await analyses.run_limited(lambda: _report(request, study_id), caller=caller_of(request))
        return await analyses.run_file_job(lambda: _bundled(request.app.state.store, report))

    _ = get_report, get_bundle
    return router
