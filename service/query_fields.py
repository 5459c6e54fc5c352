"""Fields that queries of the API and of pages share."""

__all__ = ["NAME", "PageToken"]

from typing import Annotated

from pydantic import Field

NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
"""The form of the names of optimizers, workloads, arms, suites and tags."""

PageToken = Annotated[
    str | None,
    Field(
        default=None,
        min_length=1,
        max_length=512,
        pattern=r"^[\x21-\x7e]+$",
        description="The `next_page_token` of the previous page; omit it for the first page.",
    ),
]
