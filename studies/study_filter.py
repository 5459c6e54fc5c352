"""Which studies a list shows, and in which order."""

__all__ = ["StudyFilter", "StudyOrder"]

from dataclasses import dataclass
from typing import Literal

from studies.states import StudyState

StudyOrder = Literal["newest", "oldest", "name", "ended", "state"]

_MOST_WORDS = 8


@dataclass(frozen=True, kw_only=True)
class StudyFilter:
    """Which studies a list shows, and in which order.

    Attributes:
        state: only studies in this state.
        workload: only studies on this workload.
        suite: only studies of this suite.
        owner: only studies of this token.
        tag: only studies with this tag.
        text: only studies that have every word in their name, id, workload, suite or owner, or as a tag.
        is_archived: the archived studies instead of all others.
        order: newest or oldest first, by name, those that ended last first, or by state.
    """

    state: StudyState | None = None
    workload: str | None = None
    suite: str | None = None
    owner: str | None = None
    tag: str | None = None
    text: str = ""
    is_archived: bool = False
    order: StudyOrder = "newest"

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the text, in lower case."""
        return tuple(self.text.lower().split()[:_MOST_WORDS])
