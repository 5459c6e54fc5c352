"""Text that others wrote, before it goes into any report: one line, nothing invisible in it."""

__all__ = ["heading", "plain"]

import unicodedata

from studies.views import StudyView

# Zero-width joiners hold emoji and the letters of some scripts together; figures and their units have a space
# that does not break.
_KEPT = frozenset("\u200c\u200d\N{NO-BREAK SPACE}")


def plain(text: str) -> str:
    """Return text on one line, without control characters and their like.

    Halves of surrogate pairs and marks that turn the direction of writing go too.

    The names of studies are their users' own: a name must neither begin a new line of a document nor
    rearrange the one it stands in.
    """
    kept = "".join(" " if _is_break(character) else character for character in text if _is_visible(character))
    return " ".join(part for part in kept.split(" ") if part)


def heading(study: StudyView) -> str:
    """Return what a report is headed with.

    The study's title, or its id where nothing of the title can be seen.
    """
    return study.name if plain(study.name).strip("\u200c\u200d\N{NO-BREAK SPACE}") else study.id


def _is_break(character: str) -> bool:
    return character.isspace() and character not in _KEPT


def _is_visible(character: str) -> bool:
    return (
        character in _KEPT
        or character.isspace()
        or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Cn", "Co"}
    )
