"""Sanitizes user text for reports: one line, without invisible characters."""

__all__ = ["heading", "plain"]

import unicodedata

from studies.views import StudyView

# Zero-width joiners belong to emoji and to some scripts; a no-break space joins a number and its unit.
_KEPT = frozenset("\u200c\u200d\N{NO-BREAK SPACE}")


def plain(text: str) -> str:
    """Return text on one line, without control characters, unpaired surrogates and direction marks.

    Names of studies are user text: a name must not start a new line of a document or reorder the line that
    contains it.
    """
    kept = "".join(" " if _is_break(character) else character for character in text if _is_visible(character))
    return " ".join(part for part in kept.split(" ") if part)


def heading(study: StudyView) -> str:
    """Return the heading of a report: the study's name, or its id if the name has no visible characters."""
    return study.name if plain(study.name).strip("\u200c\u200d\N{NO-BREAK SPACE}") else study.id


def _is_break(character: str) -> bool:
    return character.isspace() and character not in _KEPT


def _is_visible(character: str) -> bool:
    return (
        character in _KEPT
        or character.isspace()
        or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Cn", "Co"}
    )
