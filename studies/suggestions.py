"""The known name that a user probably meant."""

__all__ = ["closest_name"]

import difflib
from collections.abc import Iterable


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another, whatever its case; None if none is similar.

    A space, a hyphen and an underscore are the same.
    """
    by_form = {_form(candidate): candidate for candidate in known}
    # A longer text is not a name, and comparing it takes time.
    close = difflib.get_close_matches(_form(name[:100]), by_form, n=1)
    return by_form[close[0]] if close else None


def _form(name: str) -> str:
    return name.casefold().replace("_", "-").replace(" ", "-")
