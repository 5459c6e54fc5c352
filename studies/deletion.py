"""What a study consists of, which deleting it removes. No SQL."""

__all__ = ["StudyContents"]

from pydantic import Field

from studies.frozen_model import FrozenModel
from studies.states import StudyState


class StudyContents(FrozenModel):
    """Everything that deleting a study removes for good."""

    study_id: str = Field(description="Id of the study.")
    name: str = Field(description="Title of the study.")
    state: StudyState = Field(description="Its state; only a closed study can be deleted.")
    trials: int = Field(description="Trials of its searches and its confirmation.")
    measurements: int = Field(description="Measurements of these trials, one for each epoch.")
    outputs: int = Field(description="Outputs of packs: what their workers printed.")
    events: int = Field(description="Events of the study.")
    notes: int = Field(description="Versions of its notes.")
    artifacts: int = Field(description="Files that it keeps, such as weights.")
    artifact_bytes: int = Field(description="Size of these files in bytes.")
    copies: int = Field(description="Copies of its trials in Optuna's tables.")
    deliveries: int = Field(description="Deliveries to webhooks that report it.")
    pending_deliveries: int = Field(description="How many of these have not been sent; they never will be.")
    suite: str | None = Field(
        description="Suite that it belongs to, which is judged without it from then on."
    )
    left_in_suite: int = Field(description="Other studies of this suite; 0 ends the suite.")
