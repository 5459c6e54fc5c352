"""What pruning did to a study: a table of its rungs, and how many epochs each arm trained."""

__all__ = ["RungFlow", "RungTable", "describe_epochs", "rung_table"]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from studies.formatting import ABSENT, count, plural
from studies.promotion import brackets, rungs
from studies.pruner import Median
from studies.states import CLOSED_STUDY_STATES, TrialState
from studies.views import ArmView, StudyView, TrialView

_ENDED_EARLY: Final = frozenset({TrialState.DIVERGED, TrialState.FAILED})
_MOST_RUNGS: Final = 8
_SPACES_DIFFER: Final = "some spaces hold fewer configurations"
_MEDIAN_VARIES: Final = "the median pruner does not fix how many trials go on"


@dataclass(frozen=True)
class RungTable:
    """How many trials reached each rung, and how many were promoted there.

    Attributes:
        caption: what the table shows, with the number of pruned trials.
        headers, rows: a row for each arm; a column for each rung and one for the last epoch.
        flows: the same of each arm, for drawing.
    """

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    flows: tuple["RungFlow", ...]


@dataclass(frozen=True)
class RungFlow:
    """The trials of an arm on their way through the rungs, for drawing.

    Attributes:
        arm: the arm.
        stages: (epoch, trials that reached it, those of them that went on), the last epoch included.
        most: the largest number of trials at a stage of any arm; at least 1.
    """

    arm: ArmView
    stages: tuple[tuple[int, int, int], ...]
    most: int

    def bands(self, *, gap: float, bar: float, height: float) -> list[str]:
        """Return an SVG path for each way from one stage to the next, in units of the drawing.

        Args:
            gap: distance between two stages.
            bar: width of a stage.
            height: height of the largest stage.
        """
        scale = height / self.most
        return [
            f"M{i * gap + bar:.1f} 0V{on * scale:.1f}L{(i + 1) * gap:.1f} {min(reached, on) * scale:.1f}V0Z"
            for i, ((_, _, on), (_, reached, _)) in enumerate(pairwise(self.stages))
        ]


def describe_epochs(study: StudyView, arms: Sequence[ArmView]) -> str:
    """Return how many epochs each arm trains, and why if they differ; empty for a study of one arm."""
    if len(arms) < 2:
        return ""
    planned = [arm.progress.epochs for arm in arms]
    done = [arm.progress.epochs_done for arm in arms]
    is_median = isinstance(study.spec.pruner, Median)
    if study.state not in CLOSED_STUDY_STATES:
        if min(planned) != max(planned):
            return f"The arms will train {_span(planned)} epochs: {_SPACES_DIFFER}."
        if is_median:
            return f"Each arm will train up to {plural(planned[0], 'epoch')}: {_MEDIAN_VARIES}."
        return f"Each arm will train {plural(planned[0], 'epoch')}."
    if min(done) == max(done):
        return f"Each arm trained {plural(done[0], 'epoch')}."
    return f"The arms trained {_span(done)} epochs: {_why(arms, planned, is_median=is_median)}."


def _span(numbers: Sequence[int]) -> str:
    return f"{count(min(numbers))} to {count(max(numbers))}"


def _why(arms: Sequence[ArmView], planned: Sequence[int], *, is_median: bool) -> str:
    reasons: list[str] = []
    if min(planned) != max(planned):
        reasons.append(_SPACES_DIFFER)
    if any(arm.progress.cancelled or arm.progress.finished < arm.progress.trials for arm in arms):
        reasons.append("the study ended before all trials were trained")
    if is_median:
        reasons.append(_MEDIAN_VARIES)
    diverged = sum(arm.progress.diverged for arm in arms)
    if diverged:
        reasons.append(f"{plural(diverged, 'trial')} diverged")
    failed = sum(arm.progress.failed for arm in arms)
    if failed:
        reasons.append(f"{plural(failed, 'trial')} failed")
    return ", and ".join(reasons) or "some trials resumed from an earlier epoch"


def rung_table(study: StudyView, arms: Sequence[ArmView], trials: Sequence[TrialView]) -> RungTable | None:
    """Return how many trials reached each rung and were promoted; None without rungs or without trials.

    A trial that diverged or failed on its way to a rung counts as having reached it, as the worst.
    """
    pruner = study.spec.pruner
    by_bracket = [
        rungs(pruner, study.epochs, bracket=bracket) for bracket in range(brackets(pruner, study.epochs))
    ]
    epochs = by_bracket[0]
    if not epochs or not trials:
        return None
    shown = epochs if len(epochs) <= _MOST_RUNGS else (*epochs[: _MOST_RUNGS - 1], epochs[-1])
    rows: list[tuple[str, ...]] = []
    stages: list[tuple[tuple[int, int, int], ...]] = []
    for arm in arms:
        mine = [trial for trial in trials if trial.arm == arm.name]
        at = [_AtRung.of([t for t in mine if epoch in by_bracket[t.bracket]], epoch) for epoch in shown]
        rows.append((arm.label, *(rung.text for rung in at), count(arm.progress.completed)))
        done = arm.progress.completed
        stages.append(
            (
                *((epoch, r.reached, r.promoted) for epoch, r in zip(shown, at, strict=True)),
                (study.epochs, done, done),
            )
        )
    most = max(1, *(reached for each in stages for _, reached, _ in each))
    in_brackets = " All brackets are counted together." if len(by_bracket) > 1 else ""
    so_far = "" if study.state in CLOSED_STUDY_STATES else " so far"
    hidden = len(epochs) - len(shown)
    left_out = (
        f" {plural(hidden, 'rung')} before the last {'is' if hidden == 1 else 'are'} left out."
        if hidden
        else ""
    )
    return RungTable(
        caption=(
            f"How many of the trials that reached each rung were promoted.{in_brackets} "
            f"Pruned{so_far}: {count(study.progress.pruned)} of {plural(len(trials), 'trial')}.{left_out}"
        ),
        headers=(
            "Arm",
            *(f"Promoted at epoch {count(epoch)}" for epoch in shown),
            f"Trained to epoch {count(study.epochs)}",
        ),
        rows=tuple(rows),
        flows=tuple(RungFlow(arm, each, most) for arm, each in zip(arms, stages, strict=True)),
    )


@dataclass(frozen=True)
class _AtRung:
    """How many trials reached a rung, and what became of them there."""

    reached: int
    promoted: int
    waiting: int
    ended: int

    @classmethod
    def of(cls, trials: Sequence[TrialView], epoch: int) -> "_AtRung":
        """Count the trials whose bracket has this rung."""
        promoted = sum(trial.to_epoch > epoch for trial in trials)
        stopped = [trial for trial in trials if trial.to_epoch == epoch]
        ended = sum(trial.state in _ENDED_EARLY for trial in stopped)
        waiting = sum(trial.is_waiting for trial in stopped)
        pruned_here = sum(
            trial.state in {TrialState.PRUNED, TrialState.CANCELLED} and trial.epochs_done == epoch
            for trial in stopped
        )
        return cls(promoted + ended + waiting + pruned_here, promoted, waiting, ended)

    @property
    def text(self) -> str:
        """The counts in words, e.g. '9 of 27 (2 waiting, 1 diverged or failed)'."""
        if not self.reached:
            return ABSENT
        notes = [
            f"{count(n)} {word}"
            for n, word in ((self.waiting, "waiting"), (self.ended, "diverged or failed"))
            if n
        ]
        return f"{count(self.promoted)} of {count(self.reached)}" + (
            f" ({', '.join(notes)})" if notes else ""
        )
