"""A study's pruner in words: for the page and the terminal, and for the methods section of a report."""

__all__ = ["describe_pruner", "describe_pruning_method", "describe_rungs"]

from collections.abc import Callable, Sequence
from typing import Final

from studies.formatting import count, plural
from studies.promotion import brackets, rungs
from studies.pruner import Asha, Hyperband, Median, NoPruner
from studies.views import StudyView

_MOST_LISTED: Final = 8


def describe_pruner(study: StudyView) -> str:
    """Return the pruner with the epochs of its rungs, e.g. 'asha (…); rungs after epochs 1 and 3 of 9'."""
    pruner = study.spec.pruner
    match pruner:
        case NoPruner():
            return "none (every trial is trained to its last epoch)"
        case Hyperband():
            return (
                f"{pruner}; {plural(brackets(pruner, study.epochs), 'bracket')}, the first with "
                f"{describe_rungs(study)}, each further one with one rung fewer"
            )
        case _:
            return f"{pruner}; {describe_rungs(study)}"


def describe_rungs(study: StudyView, *, bracket: int = 0) -> str:
    """Return the rungs of a bracket, e.g. 'rungs after epochs 1, 3 and 9 of 27', or 'no rungs: …'."""
    epochs = rungs(study.spec.pruner, study.epochs, bracket=bracket)
    if not epochs:
        return f"no rungs: trains all {plural(study.epochs, 'epoch')} at once"
    return f"{'rung' if len(epochs) == 1 else 'rungs'} after {_epochs(epochs)} of {count(study.epochs)}"


def describe_pruning_method(study: StudyView, cite: Callable[[str], str]) -> tuple[str, ...]:
    """Return how the study pruned trials, one sentence each, for a report.

    Args:
        study: the study.
        cite: returns the citation of a work that it has under a short name, e.g. 'asha'.
    """
    pruner = study.spec.pruner
    epochs = rungs(pruner, study.epochs)
    each = "each of these rungs" if len(epochs) > 1 else "this rung"
    match pruner:
        case NoPruner():
            return ("No trial was pruned.",)
        case _ if not epochs:
            return (
                f"The pruner was {pruner.kind}, but {plural(study.epochs, 'epoch')} left no rung for it.",
            )
        case Asha():
            rule = (
                f"asynchronous successive halving {cite('asha')} at {_epochs(epochs)}: one in "
                f"{pruner.reduction_factor} of the trials that reached {each} went on"
            )
        case Hyperband():
            rule = (
                f"Hyperband {cite('hyperband')} with {plural(brackets(pruner, study.epochs), 'bracket')} of "
                f"asynchronous successive halving {cite('asha')}: the first bracket compared trials at "
                f"{_epochs(epochs)}, each further bracket began one rung later, and the last compared none; "
                f"one in {pruner.reduction_factor} went on from each rung"
            )
        case Median():
            rule = (
                f"the median rule {cite('vizier')} at {_epochs(epochs)}: a trial stopped if it was worse "
                f"than the median of the trials that had reached the rung before it; the first "
                f"{plural(pruner.min_trials, 'trial')} at {each} went on"
            )
    within = "within each replicate of each arm" if study.spec.budget.replicates > 1 else "within each arm"
    return (f"Trials were pruned {within} by {rule}.", "A pruned trial has no value.")


def _epochs(epochs: Sequence[int]) -> str:
    """Return 'epoch 3', 'epochs 1, 3 and 9', or of more than 8 the first six and the last."""
    shown = [count(epoch) for epoch in epochs]
    if len(shown) == 1:
        return f"epoch {shown[0]}"
    if len(shown) > _MOST_LISTED:
        return f"epochs {', '.join(shown[: _MOST_LISTED - 2])}, … {shown[-1]}"
    return f"epochs {', '.join(shown[:-1])} and {shown[-1]}"
