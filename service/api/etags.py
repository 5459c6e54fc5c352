"""Entity tags of studies: `"VERSION-DIGEST"`.

The digest makes a tag change with anything in the representation, progress included, so that `If-None-Match`
never hides news. Only the version takes part in `If-Match`: a trial that finished in the meantime is no
reason to refuse a pause.
"""

__all__ = ["IF_MATCH", "etag_of", "matches_etag", "version_in"]

import hashlib
import re

IF_MATCH = r'^(\*|(W/)?"[0-9]{1,9}(-[0-9a-f]{16})?")$'
"""What `If-Match` may be: `*`, a study's ETag, or only its version in quotes."""

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')
_VERSION = re.compile(r'"([0-9]+)')


def etag_of(version: int, body: bytes) -> str:
    """Return the entity tag of a study's representation."""
    return f'"{version}-{hashlib.sha256(body).hexdigest()[:16]}"'


def matches_etag(if_none_match: str | None, etag: str) -> bool:
    """Return whether the header names this very representation."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag.strip('"') in _TAG.findall(if_none_match)


def version_in(if_match: str | None) -> int | None:
    """Return the version that an `If-Match` of the form `IF_MATCH` asks for; None where it asks for none."""
    found = _VERSION.search(if_match or "")
    return None if found is None else int(found[1])
