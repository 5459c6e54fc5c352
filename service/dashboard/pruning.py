"""What pruning does to a study, in words and as a table.

Where the rungs are, who came to them and went on, how many epochs each arm trained.
"""

__all__ = ["Rungs", "epochs_said", "pruner_said", "rungs_of", "rungs_said"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from studies.analysis.numbers import ABSENT, count, plural
from studies.promotion import brackets, rungs
from studies.pruner import Hyperband, Median, NoPruner
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.views import ArmView, StudyView, TrialView

_DIED: Final = frozenset({TrialState.DIVERGED, TrialState.FAILED})
_MANY: Final = 8


@dataclass(frozen=True)
class Rungs:
    """Who came to each rung and went on.

    Attributes:
        caption: what the table shows, with the finding.
        headers, rows: a row for each arm, a column for each rung and one for the last epoch.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _listed(epochs: Sequence[int]) -> str:
    said = [count(epoch) for epoch in epochs]
    if len(said) > _MANY:
        return f"{', '.join(said[: _MANY - 2])}, … {said[-1]}"
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def rungs_said(study: StudyView, *, bracket: int = 0) -> str:
    """Return the rungs of a bracket: 'rungs after epochs 1, 3 and 9 of 27', or that it has none."""
    found = rungs(study.spec.pruner, study.epochs, bracket=bracket)
    if not found:
        return f"no rung, all {plural(study.epochs, 'epoch')} at once"
    return (
        f"rung{'' if len(found) == 1 else 's'} after epoch{'' if len(found) == 1 else 's'} "
        f"{_listed(found)} of {count(study.epochs)}"
    )


def pruner_said(study: StudyView) -> str:
    """Return the pruner with its rungs in epochs; 'none' where every trial is trained to its end."""
    pruner = study.spec.pruner
    match pruner:
        case NoPruner():
            return "none: every trial is trained to its last epoch"
        case Hyperband():
            return (
                f"{pruner}; {brackets(pruner, study.epochs)} brackets, the first with "
                f"{rungs_said(study)}, each other with one rung fewer"
            )
        case _:
            return f"{pruner}; {rungs_said(study)}"


def epochs_said(study: StudyView, arms: Sequence[ArmView]) -> str:
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


def rungs_of(study: StudyView, arms: Sequence[ArmView], trials: Sequence[TrialView]) -> Rungs | None:
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
    return Rungs(
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
