"""How Ray rejects a process that lacks the token of its cluster, and what to do. It does not import Ray."""

__all__ = ["describe_rejection", "describe_rejection_in"]

import os
import re

from studies.errors import causes

# Ray's name for both a token that is missing and one that differs.
_REJECTED = re.compile("InvalidAuthToken|AuthenticationError")
_FILE = "RAY_AUTH_TOKEN_PATH to the file with the cluster's token"


def describe_rejection(text: str) -> str | None:
    """Return why a cluster rejected this process and what to do; None if Ray's text says something else."""
    if not _REJECTED.search(text):
        return None
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode == "token":
        return f"the cluster rejects this machine's token; set {_FILE}, the same on all its machines"
    is_set = "is not set" if mode is None else f"is {mode!r}"
    return f"the cluster requires a token, but RAY_AUTH_MODE {is_set}; set RAY_AUTH_MODE=token, and {_FILE}"


def describe_rejection_in(error: BaseException) -> str | None:
    """Return the same as `describe_rejection` for an error that Ray may have caused."""
    found = (describe_rejection(f"{type(each).__name__}: {each}") for each in causes(error))
    return next((text for text in found if text is not None), None)
