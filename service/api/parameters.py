"""Parameters and response headers that several routes share."""

__all__ = [
    "ETAG",
    "LOCATION",
    "NAME",
    "STUDY_ID",
    "IdempotencyKey",
    "IfMatch",
    "IfNoneMatch",
    "PageToken",
    "StudyId",
    "ValidateOnly",
]

from typing import Annotated

from fastapi import Header, Path, Query

from service.api.etags import IF_MATCH
from service.query_fields import NAME, PageToken

STUDY_ID = r"^[a-z0-9]{1,16}$"
"""The form of the ids of studies and webhooks."""

StudyId = Annotated[str, Path(pattern=STUDY_ID, description="Id of a study.", examples=["k3f9x2db"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description=(
            "Any text that is new for each study. The same key with the same body returns the same study, so "
            "that a request can be retried safely."
        ),
        examples=["5b1f1f8e-7d0f-4c57-9c0e-3b5b8f0e2a11"],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        pattern=IF_MATCH,
        description=(
            "The study's ETag, or only its version. The request is refused if the study's state has changed "
            "since then; progress alone does not count."
        ),
        examples=['"3"'],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(max_length=2000, description="ETag of a cached copy; the response is 304 if it is still current."),
]
ValidateOnly = Annotated[
    bool, Query(description="Only check the body and return what would happen; store nothing.")
]

LOCATION = {"Location": {"description": "Path of the study.", "schema": {"type": "string"}}}
ETAG = {
    "ETag": {
        "description": "Changes with the study; send it in `If-Match` or `If-None-Match`.",
        "schema": {"type": "string"},
    }
}
