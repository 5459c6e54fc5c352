"""Pagination: each page comes with a token for the next page, which is valid for the same query only."""

__all__ = ["page"]

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select

from studies.errors import SpecInvalid, SpecProblem


def page(
    connection: Connection, query: Select[Any], scope: Sequence[Any], page_size: int, page_token: str | None
) -> tuple[Sequence[Any], str | None, int]:
    """Return one page of rows, the token of the next page (None on the last) and the total number of rows."""
    digest = hashlib.sha256(json.dumps([str(part) for part in scope]).encode()).hexdigest()[:12]
    offset = _offset(page_token, digest)
    total = connection.execute(select(func.count()).select_from(query.order_by(None).subquery())).scalar_one()
    rows = connection.execute(query.limit(page_size).offset(offset)).all()
    end = offset + len(rows)
    token = (
        base64.urlsafe_b64encode(f"{end}.{digest}".encode()).decode().rstrip("=")
        if rows and end < total
        else None
    )
    return rows, token, total


def _offset(page_token: str | None, digest: str) -> int:
    if page_token is None:
        return 0
    try:
        offset, of_query = (
            base64.urlsafe_b64decode(page_token + "=" * (-len(page_token) % 4)).decode("ascii").split(".")
        )
        if of_query == digest and 0 <= int(offset) < 2**31:
            return int(offset)
    except (binascii.Error, ValueError):
        pass
    raise SpecInvalid(
        [
            SpecProblem(
                "/page_token",
                "expected the next_page_token of the same query's previous page; leave it out to start again",
            )
        ]
    )
