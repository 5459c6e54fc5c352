"""ETags of studies: `"VERSION-DIGEST"`.

The digest changes with the whole representation, progress included, so that `If-None-Match` never hides a
change. `If-Match` compares only the version: a trial that has finished meanwhile is not a reason to refuse a
pause.
"""

__all__ = ["IF_MATCH", "etag_of", "matches_etag", "version_in"]

import hashlib
import re

IF_MATCH = r'^(\*|(W/)?"[0-9]{1,9}(-[0-9a-f]{16})?")$'
"""The form of `If-Match`: `*`, a study's ETag, or only its version in quotes."""

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_VERSION = re.compile(r'"([0-9]+)')


def etag_of(version: int, body: bytes) -> str:
    """Return the ETag of a study's representation."""
    return f'"{version}-{hashlib.sha256(body).hexdigest()[:16]}"'


def matches_etag(if_none_match: str | None, etag: str) -> bool:
    """Return whether an `If-None-Match` header matches an ETag."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag.strip('"') in _TAG.findall(if_none_match)


def version_in(if_match: str | None) -> int | None:
    """Return the version in an `If-Match` of the form `IF_MATCH`; None if it names none."""
    found = _VERSION.search(if_match or "")
    return None if found is None else int(found[1])
