"""The notes of a study: a text in Markdown, each version of which is kept. No SQL."""

__all__ = ["MAX_CHARACTERS", "MOST_LISTED", "NotesText", "NotesVersion", "StudyNotes", "parse_notes"]

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError

from studies.errors import NotesInvalid, SpecProblem, json_kind
from studies.frozen_model import FrozenModel
from studies.validation_errors import problems_of

MAX_CHARACTERS: Final = 20_000
"""The longest notes."""

MOST_LISTED: Final = 100
"""The most versions that a history lists."""


def _bounded(text: str) -> str:
    """Return a text with line feeds as its line ends, if it is not too long; else raise ValueError.

    Browsers send other line ends than those that were typed.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"expected at most {MAX_CHARACTERS:,} characters, got {len(text):,}; shorten the notes, or link "
            "to a longer text"
        )
    return text


class NotesText(FrozenModel):
    """New notes of a study."""

    text: Annotated[str, AfterValidator(_bounded)] = Field(
        strict=True,
        json_schema_extra={"maxLength": MAX_CHARACTERS},
        description="The whole text, in Markdown; empty to remove the notes.",
        examples=["AdamP wins by **0.4 points** at every budget.\n\nNext: the same with `cosine`."],
    )


class NotesVersion(FrozenModel):
    """A version of a study's notes, without its text."""

    version: int = Field(description="Number of the version, from 1 without gaps.")
    by: str | None = Field(description="Name of the token that wrote it; none on an open service.")
    at: datetime = Field(description="When it was written.")
    characters: int = Field(description="Length of its text; 0 if it removed the notes.")


class StudyNotes(FrozenModel):
    """The notes of a study: one version of their text, and their history."""

    study_id: str = Field(description="Id of the study.")
    version: int = Field(description="The version of `text`; 0 if the study never had notes.")
    text: str = Field(description="The text of this version, in Markdown.")
    history: tuple[NotesVersion, ...] = Field(
        description=f"Its newest versions, newest first, at most {MOST_LISTED}; the first is the current one."
    )

    @property
    def newest(self) -> int:
        """Number of the current version; 0 if the study never had notes."""
        return self.history[0].version if self.history else 0


def parse_notes(data: Any) -> str:
    """Return the text in plain data (from JSON or YAML), with line feeds as its line ends.

    Raises:
        NotesInvalid: the data has no such text; carries every fault with its JSON pointer.
    """
    if not isinstance(data, Mapping):
        raise NotesInvalid([SpecProblem("", f"expected an object with a text, got {json_kind(data)}")])
    try:
        return NotesText.model_validate(data).text
    except ValidationError as error:
        raise NotesInvalid(problems_of(error, data, of=NotesText)) from None
