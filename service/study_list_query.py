"""The query of the list of studies, for the API and the page."""

__all__ = ["StudyListQuery"]

from pydantic import Field

from service.query_fields import NAME
from studies.frozen_model import FrozenModel
from studies.states import StudyState
from studies.study_filter import StudyFilter, StudyOrder


class StudyListQuery(FrozenModel):
    """Which studies to list, and in which order."""

    q: str = Field(
        default="",
        max_length=200,
        description=(
            "Only studies that have every one of these words in their name, id, workload, suite or owner, or "
            "as a tag."
        ),
    )
    state: StudyState | None = Field(default=None, description="Only studies in this state.")
    workload: str | None = Field(
        default=None, pattern=NAME, description="Only studies on this workload.", examples=["digits-mlp"]
    )
    suite: str | None = Field(
        default=None, pattern=NAME, description="Only studies of this suite.", examples=["small-vision"]
    )
    owner: str | None = Field(default=None, max_length=64, description="Only studies of this token.")
    tag: str | None = Field(default=None, pattern=NAME, description="Only studies with this tag.")
    archived: bool = Field(default=False, description="The archived studies instead of all others.")
    order: StudyOrder = Field(
        default="newest",
        description="Newest or oldest first, by name, those that ended last first, or by state.",
    )

    @property
    def chosen(self) -> StudyFilter:
        """The filter of the store."""
        return StudyFilter(
            state=self.state,
            workload=self.workload,
            suite=self.suite,
            owner=self.owner,
            tag=self.tag,
            text=self.q,
            is_archived=self.archived,
            order=self.order,
        )
