"""What pruning does to a study, in words and as a table.

Where the rungs are, who came to them and went on, how many epochs each arm trained.
"""

__all__ = ["RungTable", "describe_epochs", "rung_table"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from studies.formatting import ABSENT, count, plural
from studies.promotion import brackets, rungs
from studies.pruner import Median
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.views import ArmView, StudyView, TrialView

_DIED: Final = frozenset({TrialState.DIVERGED, TrialState.FAILED})
_MANY: Final = 8


@dataclass(frozen=True)
class RungTable:
    """Who came to each rung and went on.

    Attributes:
        caption: what the table shows, with the finding.
        headers, rows: a row for each arm, a column for each rung and one for the last epoch.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def describe_epochs(study: StudyView, arms: Sequence[ArmView]) -> str:
    """Return whether the arms train equally many epochs, and if not why, in one sentence.

    Nothing of a study of one arm.
    """
    if len(arms) < 2:
        return ""
    planned = [arm.progress.epochs for arm in arms]
    done = [arm.progress.epochs_done for arm in arms]
    is_median = isinstance(study.spec.pruner, Median)
    if study.state not in CLOSED_STUDY_STATES:
        if min(planned) != max(planned):
            return (
                f"The arms are to train {_span(planned)} epochs, for their spaces do not "
                "hold equally many configurations."
            )
        if is_median:
            return (
                f"Each arm trains at most {plural(planned[0], 'epoch')}; with the pruner "
                "median it depends on its trials how many."
            )
        return f"Each arm is to train {plural(planned[0], 'epoch')}."
    if min(done) == max(done):
        return f"Each arm trained {plural(done[0], 'epoch')}."
    return f"The arms trained {_span(done)} epochs: {_why(arms, planned, is_median=is_median)}."


def _span(numbers: Sequence[int]) -> str:
    return f"{count(min(numbers))} to {count(max(numbers))}"


def _why(arms: Sequence[ArmView], planned: Sequence[int], *, is_median: bool) -> str:
    reasons: list[str] = []
    if min(planned) != max(planned):
        reasons.append("their spaces do not hold equally many configurations")
    if any(arm.progress.cancelled or arm.progress.finished < arm.progress.trials for arm in arms):
        reasons.append("the study was ended before all trials were trained")
    if is_median:
        reasons.append("with the pruner median it depends on an arm's trials how many go on")
    if any(arm.progress.diverged for arm in arms):
        reasons.append("a trial that diverged trained no further")
    if any(arm.progress.failed for arm in arms):
        reasons.append("a trial that failed trained no further")
    return ", and ".join(reasons) or "some trials were trained from another epoch on"


def rung_table(study: StudyView, arms: Sequence[ArmView], trials: Sequence[TrialView]) -> RungTable | None:
    """Return who came to each rung and went on; None for a study without rungs or before any trial has begun.

    A trial that diverged or failed on its way to a rung has come there, as the worst.
    """
    pruner = study.spec.pruner
    of_bracket = [
        rungs(pruner, study.epochs, bracket=bracket) for bracket in range(brackets(pruner, study.epochs))
    ]
    epochs = of_bracket[0]
    if not epochs or not trials:
        return None
    shown = epochs if len(epochs) <= _MANY else (*epochs[: _MANY - 1], epochs[-1])
    rows: list[tuple[str, ...]] = []
    for arm in arms:
        mine = [trial for trial in trials if trial.arm == arm.name]
        cells = [
            _cell([trial for trial in mine if epoch in of_bracket[trial.bracket]], epoch) for epoch in shown
        ]
        rows.append((arm.label, *cells, count(arm.progress.completed)))
    brackets_said = ", all brackets together" if len(of_bracket) > 1 else ""
    so_far = "" if study.state in CLOSED_STUDY_STATES else " so far"
    left_out = (
        "" if shown == epochs else f" {count(len(epochs) - len(shown))} rungs before the last are left out."
    )
    return RungTable(
        caption=(
            f"How many of the trials that came to each rung went on{brackets_said}. Pruned{so_far}: "
            f"{count(study.progress.pruned)} of {plural(len(trials), 'trial')}.{left_out}"
        ),
        headers=(
            "Arm",
            *(f"On from epoch {count(epoch)}" for epoch in shown),
            f"Trained to epoch {count(study.epochs)}",
        ),
        rows=tuple(rows),
    )


def _cell(trials: Sequence[TrialView], epoch: int) -> str:
    """Return what became of the trials at one rung: '9 of 27', and how many wait or died on the way."""
    went_on = sum(trial.to_epoch > epoch for trial in trials)
    stopped = [trial for trial in trials if trial.to_epoch == epoch]
    died = sum(trial.state in _DIED for trial in stopped)
    waits = sum(trial.is_waiting for trial in stopped)
    came = (
        went_on
        + died
        + waits
        + sum(
            trial.state in {TrialState.PRUNED, TrialState.CANCELLED} and trial.epochs_done == epoch
            for trial in stopped
        )
    )
    if not came:
        return ABSENT
    asides = [
        f"{count(n)} {word}"
        for n, word in ((waits, "wait" if waits > 1 else "waits"), (died, "lost on the way"))
        if n
    ]
    return f"{count(went_on)} of {count(came)}" + (f" ({', '.join(asides)})" if asides else "")
