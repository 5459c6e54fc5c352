"""Files that studies keep: lists of them, and their content."""

__all__ = ["artifact_router"]

import base64
import re
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service import errors
from service.api.etags import matches_etag
from service.api.openapi import problem_responses
from service.api.parameters import IfNoneMatch, StudyId
from service.api.responses import one_page
from service.api.trials import TrialId
from service.artifact_files import ByteRange, media_type, open_artifact, pieces, requested_range
from studies.artifacts import ArtifactView
from studies.store import Store
from studies.views import Page

ArtifactId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{32}$",
        description="Id of a kept file.",
        examples=["5f0c3c2e9d7b4a51b7f1a0c9d2e4f680"],
    ),
]
Range = Annotated[
    str | None,
    Header(
        alias="range",
        max_length=200,
        description="One range of bytes to send in place of the whole file.",
        examples=["bytes=1048576-"],
    ),
]
IfRange = Annotated[
    str | None,
    Header(max_length=200, description="ETag of the file that `Range` continues; of another, all is sent."),
]
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
# A file that a browser opens all the same can load and run nothing.
_CONTENT_SECURITY_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
_CONTENT = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_HEADERS: dict[str, Any] = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("ETag", "Identifies the content; send it in `If-None-Match` or `If-Range`."),
        ("Repr-Digest", "SHA-256 of the whole file in base64 (RFC 9530)."),
        ("Content-Disposition", "The name of the file."),
    )
}


def artifact_router() -> APIRouter:
    """Return the routes of kept files."""
    router = APIRouter(tags=["trials"])

    @router.get(
        "/studies/{study_id}/artifacts",
        response_model=Page[ArtifactView],
        summary="Files that a study keeps",
        responses=problem_responses(errors.STUDY_NOT_FOUND),
    )
    def list_artifacts(request: Request, study_id: StudyId) -> Page[ArtifactView]:
        """Return the files that a study keeps, as its `keep` says, and those that it could not keep."""
        store: Store = request.app.state.store
        return one_page(Page[ArtifactView], store.artifacts(study_id))

    @router.get(
        "/trials/{trial_id}/artifacts",
        response_model=Page[ArtifactView],
        summary="Files of a trial that are kept",
        responses=problem_responses(errors.TRIAL_NOT_FOUND),
    )
    def list_trial_artifacts(request: Request, trial_id: TrialId) -> Page[ArtifactView]:
        """Return the files of a trial that its study keeps, and those that it could not keep."""
        store: Store = request.app.state.store
        return one_page(Page[ArtifactView], store.trial_artifacts(trial_id))

    @router.get(
        "/artifacts/{artifact_id}/content",
        response_class=StreamingResponse,
        summary="Content of a kept file",
        response_description="The file.",
        responses={
            200: {"content": _CONTENT, "headers": _HEADERS},
            206: {
                "description": "The range of the file that `Range` asks for.",
                "content": _CONTENT,
                "headers": _HEADERS,
            },
            304: {"description": "The copy named in `If-None-Match` is current."},
            **problem_responses(errors.ARTIFACT_NOT_FOUND, errors.RANGE_INVALID, errors.ARTIFACT_UNAVAILABLE),
        },
    )
    def get_content(
        request: Request,
        artifact_id: ArtifactId,
        byte_range: Range = None,
        if_range: IfRange = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Return a file that a study keeps, or a range of its bytes.

        A file of weights is read with `torch.load(file, weights_only=True)`; its `model` is a `state_dict`.
        """
        store: Store = request.app.state.store
        artifact, url = store.artifact_location(artifact_id)
        headers = _headers(artifact)
        if matches_etag(if_none_match, headers["etag"]):
            return Response(status_code=304, headers=headers)
        is_same = if_range is None or if_range.strip() == headers["etag"]
        part = requested_range(byte_range if is_same else None, size=artifact.size)
        file = open_artifact(artifact, url)
        if part is None:
            return _ArtifactResponse(file, ByteRange(0, artifact.size), artifact, headers=headers)
        last = part.start + part.length - 1
        headers["content-range"] = f"bytes {part.start}-{last}/{artifact.size}"
        return _ArtifactResponse(file, part, artifact, headers=headers, status_code=206)

    _ = list_artifacts, list_trial_artifacts, get_content
    return router


class _ArtifactResponse(StreamingResponse):
    """A response that sends a part of an open file and closes it, even if no reader asks for its content."""

    def __init__(
        self,
        file: IO[bytes],
        part: ByteRange,
        artifact: ArtifactView,
        *,
        headers: dict[str, str],
        status_code: int = 200,
    ) -> None:
        self._file = file
        super().__init__(
            pieces(file, part),
            status_code=status_code,
            media_type=media_type(artifact.name),
            headers={**headers, "content-length": str(part.length)},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _headers(artifact: ArtifactView) -> dict[str, str]:
    assert artifact.sha256 is not None, "it is kept"
    digest = base64.b64encode(bytes.fromhex(artifact.sha256)).decode()
    name = artifact.name.rpartition("/")[2] or "file"
    if artifact.kind == "weights":
        name = f"{artifact.study_id}-{name}"
    return {
        "etag": f'"{artifact.sha256}"',
        "repr-digest": f"sha-256=:{digest}:",
        "accept-ranges": "bytes",
        "content-disposition": (
            f"attachment; filename=\"{_UNSAFE.sub('_', name)}\"; filename*=UTF-8''{quote(name, safe='')}"
        ),
        "content-security-policy": _CONTENT_SECURITY_POLICY,
    }
