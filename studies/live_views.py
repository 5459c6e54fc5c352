"""Views of a study while it runs: what is in training, where, how fast, and what has failed."""

__all__ = [
    "EpochsDone",
    "LiveFailure",
    "LivePack",
    "LiveStudy",
    "LiveTrial",
    "NarrowedDifference",
    "TimeLeft",
    "TrialsByEpochs",
]

import zlib
from datetime import datetime
from typing import Literal

from pydantic import Field

from studies.formatting import without_numbers
from studies.frozen_model import FrozenModel
from studies.states import StudyState, TrialState
from studies.trials import Phase

EpochsDone = Literal["none", "first half", "second half", "all"]


class LiveTrial(FrozenModel):
    """A trial with its validation values so far."""

    id: str = Field(description="Id of the trial.")
    arm: str = Field(description="Name of its arm.")
    phase: Phase = Field(description="Whether it belongs to the search or to the confirmation.")
    number: int = Field(description="Number in its arm and phase, from 0.")
    epochs_done: int = Field(description="Epochs trained so far.")
    to_epoch: int = Field(description="The epoch at which it stops next.")
    epochs: tuple[int, ...] = Field(description="The epochs of `values`, in order.")
    values: tuple[float | None, ...] = Field(
        description="Validation value of the objective after each of these epochs; null if it was not finite."
    )


class LivePack(FrozenModel):
    """Trials that one worker trained together, in the last pack of each."""

    worker: str | None = Field(
        description="Host and process that trained them; none before their first report."
    )
    arm: str = Field(description="Name of their arm.")
    phase: Phase = Field(description="Whether they belong to the search or to the confirmation.")
    started_at: datetime = Field(description="When they started together.")
    ended_at: datetime | None = Field(description="When the last of them ended; none while one is running.")
    trials: int = Field(description="Number of trials.")
    running: int = Field(description="How many of them are still in training.")
    epochs_done: int = Field(description="Epochs that all of them have trained since then.")
    epochs_left: int = Field(description="Most epochs that one of them has still to train before it stops.")


class TrialsByEpochs(FrozenModel):
    """How many trials are in a state and have trained a part of their epochs."""

    phase: Phase = Field(description="Whether they belong to the search or to the confirmation.")
    state: TrialState = Field(description="Their state.")
    is_waiting: bool = Field(description="Whether they wait at a rung; their state is `queued`.")
    epochs_done: EpochsDone = Field(description="How much of a trial's epochs they have trained.")
    trials: int = Field(description="Number of trials.")


class LiveFailure(FrozenModel):
    """Trials that failed for the same reason, with what the last of them printed."""

    reason: str = Field(description='Why they failed, with "…" for numbers that differ between them.')
    trials: int = Field(description="Number of trials.")
    last_trial: str = Field(description="Id of the trial that failed last.")
    last_at: datetime | None = Field(description="When it failed.")
    output: str = Field(description="The last lines that its worker printed; empty if it printed nothing.")

    @property
    def key(self) -> str:
        """A short name of the reason, the same for every count and number in it."""
        return f"{zlib.crc32(without_numbers(self.reason).encode('utf-8', 'replace')):x}"


class TimeLeft(FrozenModel):
    """An estimate of the seconds until a study ends, at the rate of its last epochs."""

    seconds: float = Field(description="The estimate.")
    low_s: float = Field(
        description=(
            "Lower end of its range, within which four in five of the studies ended from which it was made."
        )
    )
    high_s: float = Field(description="Upper end.")


class LiveStudy(FrozenModel):
    """A study while it runs."""

    study_id: str = Field(description="Id of the study.")
    state: StudyState = Field(description="State of the study.")
    at: datetime = Field(description="When this was read.")
    in_training: int = Field(description="Number of trials in training, confirmation runs included.")
    trials: tuple[LiveTrial, ...] = Field(
        description="Trials in training, those that have trained longest first; at most 24."
    )
    best: tuple[LiveTrial, ...] = Field(description="The best completed trial of each arm's search so far.")
    packs: tuple[LivePack, ...] = Field(description="The last packs, newest first; at most 120.")
    states: tuple[TrialsByEpochs, ...] = Field(description="Every trial, by state and by epochs done.")
    failures: tuple[LiveFailure, ...] = Field(
        description="The last failures, grouped by reason, the newest first; at most 5 reasons."
    )
    attempts_lost: int = Field(description="Attempts that were lost to a fault and are trained again.")
    time_left: TimeLeft | None = Field(
        description="When the study is expected to end; none before the first epoch and while it is paused."
    )


class NarrowedDifference(FrozenModel):
    """An arm minus the leading arm after the first pairs of trials, at the study's primary budget."""

    arm: str = Field(description="Name of the arm.")
    leader: str = Field(description="The arm that leads after the pairs so far.")
    pairs: int = Field(description="Number of pairs.")
    difference: float = Field(description="Expected test value of the choice, arm minus leader.")
    low: float = Field(description="Lower end of its 95 % interval, for this number of pairs alone.")
    high: float = Field(description="Upper end.")
