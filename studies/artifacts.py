"""Artifacts: files of trials that a study keeps after its end, such as the weights of the best. No SQL."""

__all__ = ["ArtifactKind", "ArtifactView", "NewArtifact", "WeightsOf"]

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from studies.frozen_model import FrozenModel

ArtifactKind = Literal["weights", "file"]
WeightsOf = Literal["best", "defaults"]
"""The configuration of an arm whose weights are kept."""


@dataclass(frozen=True, kw_only=True)
class NewArtifact:
    """A file that a worker has kept, or could not keep.

    Attributes:
        id: names the file in its folder: 32 hexadecimal digits.
        name: the name to show and to download it by.
        size: in bytes.
        sha256: of the whole file, in hexadecimal digits; None: it was not kept.
        url: where it is; None: it was not kept.
        weights_of: the configuration whose weights it holds; None for other files.
        reason: why it was not kept.
    """

    id: str
    kind: ArtifactKind
    name: str
    size: int
    sha256: str | None = None
    url: str | None = None
    weights_of: WeightsOf | None = None
    reason: str | None = None


class ArtifactView(FrozenModel):
    """A file of a trial that its study keeps, or a note why it is not kept."""

    id: str = Field(description="Id of the file.")
    study_id: str = Field(description="Id of its study.")
    trial_id: str = Field(description="Id of its trial.")
    arm: str = Field(description="Name of the trial's arm.")
    kind: ArtifactKind = Field(
        description="`weights`: the final weights of a model; `file`: from the trial's folder."
    )
    weights_of: WeightsOf | None = Field(
        description="The arm's configuration whose weights it holds: its best, or its defaults."
    )
    name: str = Field(description="Name of the file.")
    size: int = Field(description="Size in bytes.")
    sha256: str | None = Field(
        description="SHA-256 of the file, in hexadecimal digits; none if it was not kept."
    )
    is_kept: bool = Field(description="Whether the file can be downloaded.")
    reason: str | None = Field(description="Why it was not kept; none if it was.")
    created_at: datetime = Field(description="When it was stored.")
