"""A study's report, in several formats, and its bundle."""

__all__ = ["ReportFormat", "report_router"]

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service import errors
from service.analysis_cache import AnalysisCache
from service.api.etags import etag_of, matches_etag
from service.api.openapi import problem_responses
from service.api.parameters import IfNoneMatch, StudyId
from service.auth import caller_of
from service.report.bundle_writer import write_bundle
from service.report.html import CONTENT_SECURITY_POLICY, html
from service.report.latex import latex
from service.report.manifest import bundle_name
from service.report.markdown import markdown
from service.report.study_report import StudyReport, report_of
from service.theme_choice import chosen_theme
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
    Query(alias="format", description="The format; by default the one in `Accept`, or JSON."),
]


def _accepted(accept: str) -> ReportFormat:
    """Return the format that an `Accept` header prefers, the first if several are equal, or JSON."""
    weights: dict[ReportFormat, float] = {}
    for part in accept.split(","):
        media, _, parameters = part.partition(";")
        formats: list[ReportFormat] = [
            name for name, known in _TYPES.items() if known.partition(";")[0] == media.strip().lower()
        ]
        weights |= {name: _weight(parameters) for name in formats}
    return max(weights, key=lambda name: weights[name]) if any(weights.values()) else "json"


def _weight(parameters: str) -> float:
    """Return the weight `q` among the parameters of a media type; 1 if it is missing or not valid."""
    found = _WEIGHT.search(parameters)
    return 1.0 if found is None else float(found[1])


def _render(report: StudyReport, form: ReportFormat) -> str:
    match form:
        case "json":
            # Written by pydantic, which writes null for numbers that JSON cannot express.
            return report.model_dump_json()
        case "markdown":
            return markdown(report)
        case "html":
            return html(report, theme=chosen_theme())
        case "latex":
            return latex(report)


def _read_report(request: Request, study_id: str) -> StudyReport:
    store: Store = request.app.state.store
    analyses: AnalysisCache = request.app.state.analyses
    # Arms are only ever added, so in this order the arms include every arm of the analysis and the spec.
    analysis, study = analyses.study(study_id, is_patient=True), store.study(study_id)
    layers = store.study_layers(study_id).arms
    return report_of(study, store.arms(study_id), analysis, layers=layers)


def _report_response(report: StudyReport, form: ReportFormat, *, if_none_match: str | None) -> Response:
    body = _render(report, form).encode("utf-8", "replace")
    headers = {"etag": etag_of(report.study.version, body), "vary": "Accept, Cookie"}
    if matches_etag(if_none_match, headers["etag"]):
        return Response(status_code=304, headers=headers)
    if form == "html":
        headers["content-security-policy"] = f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'none'"
    return Response(body, media_type=_TYPES[form], headers=headers)


def _bundle_response(store: Store, report: StudyReport) -> Response:
    # Written completely before the first byte is sent, so that a failure is not half a file.
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())
        write_bundle(store, report, file)
        size = file.tell()
        file.seek(0)
        stack.pop_all()
    name = bundle_name(report.study.id, report.study.name)
    headers = {"content-disposition": f'attachment; filename="{name}"', "content-length": str(size)}
    return _FileResponse(file, media_type="application/zip", headers=headers)


class _FileResponse(StreamingResponse):
    """A response that sends an open file in pieces and closes it, even if no reader asks for its content."""

    def __init__(self, file: IO[bytes], *, media_type: str, headers: dict[str, str]) -> None:
        self._file = file
        super().__init__(_chunks(file), media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece


def report_router() -> APIRouter:
    """Return the routes of reports and bundles."""
    router = APIRouter(tags=["analysis"])

    @router.get(
        "/studies/{study_id}/report",
        response_model=StudyReport,
        summary="A study's report",
        response_description="The report in the requested format.",
        responses={
            200: {
                "content": {
                    media.partition(";")[0]: {"schema": {"type": "string"}}
                    for name, media in _TYPES.items()
                    if name != "json"
                },
                "headers": {
                    "ETag": {
                        "description": "Changes with the report; send it in `If-None-Match`.",
                        "schema": {"type": "string"},
                    }
                },
            },
            304: {"description": "The copy named in `If-None-Match` is current."},
            **problem_responses(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID, errors.ANALYSIS_PENDING),
        },
    )
    async def get_report(
        request: Request, study_id: StudyId, form: Format = None, if_none_match: IfNoneMatch = None
    ) -> Response:
        """Return a study's report: the verdict, a methods paragraph for a paper, and the best configurations.

        Markdown suits an appendix or an issue. HTML is a single self-contained file with charts. LaTeX is a
        table (booktabs).
        """
        analyses: AnalysisCache = request.app.state.analyses
        chosen = form or _accepted(request.headers.get("accept", ""))
        return await analyses.run_limited(
            lambda: _report_response(_read_report(request, study_id), chosen, if_none_match=if_none_match),
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
                        "description": "The name of the file.",
                        "schema": {"type": "string"},
                    }
                },
            },
            **problem_responses(errors.STUDY_NOT_FOUND, errors.ANALYSIS_PENDING),
        },
    )
    async def get_bundle(request: Request, study_id: StudyId) -> Response:
        """Return a zip file with all data of a study, for use without Tangent or with `tangent replay`.

        It contains the spec, the plan, trials and measurements (Parquet and CSV), environment, seeds,
        version, analysis and report; `manifest.json` has the SHA-256 of each file. The bundle of an open
        study contains what has been stored so far.
        """
        analyses: AnalysisCache = request.app.state.analyses
        report = await analyses.run_limited(
            lambda: _read_report(request, study_id), caller=caller_of(request)
        )
        return await analyses.run_file_job(lambda: _bundle_response(request.app.state.store, report))

    _ = get_report, get_bundle
    return router
