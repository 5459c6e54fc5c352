"""Findings in words: who leads in a study, by how much, and what that is worth. Never a winner: nothing here has been confirmed."""

__all__ = ["Headline", "headline", "leader", "ranked", "tried"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.dashboard.figures.chart import label
from service.dashboard.numbers import count, difference, metric, metric_unit, plural
from studies.catalog import WorkloadCard
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.statistics.proportion import standard_error
from studies.views import ArmView, Best, StudyView

_NOT_CONFIRMED: Final = "No configuration has been confirmed on fresh seeds."


@dataclass(frozen=True)
class Headline:
    """What a study found, and what that is worth."""

    finding: str
    limits: tuple[str, ...] = ()


def ranked(arms: Sequence[ArmView], card: WorkloadCard) -> list[tuple[ArmView, Best]]:
    """Return the arms that have a completed trial with their best, best first; arms that are level keep their order."""
    have = [(arm, arm.best) for arm in arms if arm.best is not None]
    return sorted(have, key=lambda pair: pair[1].value, reverse=card.direction == "maximize")


def leader(arms: Sequence[ArmView], card: WorkloadCard) -> str | None:
    """Return who leads with how much, e.g. 'AdamP 98.12 %', or None before any trial has completed."""
    order = ranked(arms, card)
    if not order:
        return None
    value = order[0][1].value
    level = [label(arm) for arm, best in order if best.value == value]
    return f"{', '.join(level[:3])}{' …' if len(level) > 3 else ''} {metric(value, card.unit)}"


def headline(study: StudyView, arms: Sequence[ArmView]) -> Headline:
    """Return a study's finding in one sentence, and its limits; never a winner, for nothing has been confirmed."""
    order = ranked(arms, study.workload_card)
    if not order:
        return Headline(_nothing(study))
    so_far = "" if study.state in CLOSED_STUDY_STATES else "So far, "
    return Headline(f"{so_far}{_comparison(order, arms, study.workload_card)}.", _limits(study, order, arms))


def _comparison(order: Sequence[tuple[ArmView, Best]], arms: Sequence[ArmView], card: WorkloadCard) -> str:
    value = order[0][1].value
    reached = f"{metric(value, card.unit)}{metric_unit(card.unit)} validation {card.metric} after {_tried(arms)}"
    if len(arms) == 1:
        return f"{label(arms[0])} has reached {reached}"
    level = [label(arm) for arm, best in order if best.value == value]
    rest = [(arm, best) for arm, best in order if best.value != value]
    who = f"{level[0]} leads" if len(level) == 1 else f"{', '.join(level[:-1])} and {level[-1]} lead level"
    if not rest:
        return f"{who} with {reached}" + ("; no other arm has completed a trial" if len(level) < len(arms) else "")
    arm, best = rest[0]
    place = "second" if len(level) == 1 else "next"
    return f"{who} with {reached}; {place} is {label(arm)}, {difference(best.value, value, card.unit)} behind"


def tried(arm: ArmView) -> int:
    """Return how many trials of an arm say something of its optimizer: not those that were cancelled or lost."""
    return arm.progress.completed + arm.progress.diverged + arm.progress.pruned


def _tried(arms: Sequence[ArmView]) -> str:
    """Return how many trials the comparison rests on."""
    counts = [tried(arm) for arm in arms]
    each = " per arm" if len(arms) > 1 else ""
    return f"{plural(counts[0], 'trial')}{each}" if min(counts) == max(counts) else f"{count(min(counts))} to {count(max(counts))} trials{each}"


def _limits(study: StudyView, order: Sequence[tuple[ArmView, Best]], arms: Sequence[ArmView]) -> tuple[str, ...]:
    card = study.workload_card
    chosen = "Each configuration was trained once, and the best of several always looks better than it is: small differences may be noise."
    said = [chosen]
    best = order[0][1].value
    if card.metric == "accuracy" and card.unit == "fraction" and 0 < best < 1:
        error = standard_error(best, card.examples["validation"])
        examples = f"{count(card.examples['validation'])} validation examples"
        said.append(f"An accuracy on {examples} has a standard error of about {difference(error, 0, card.unit)}.")
    pruned = study.progress.pruned
    if pruned:
        of = plural(sum(tried(arm) for arm in arms), "trial")
        said.append(f"Of {of} {count(pruned)} {'was' if pruned == 1 else 'were'} pruned before the last epoch; no best value is theirs.")
    if study.spec.objective.at == "best":
        said.append("Values are each trial's best epoch by validation, which is optimistic.")
    return (*said, _NOT_CONFIRMED)


def _nothing(study: StudyView) -> str:
    p = study.progress
    match study.state:
        case StudyState.QUEUED if p.finished == 0:
            return "Nothing has been measured yet: the study waits for a dispatcher."
        case StudyState.RUNNING | StudyState.STOPPING | StudyState.CANCELLING if p.finished == 0:
            return f"No trial has finished yet: {plural(p.running, 'trial')} in training, {plural(p.epochs_done, 'epoch')} done."
        case StudyState.PAUSED if p.finished == 0:
            return "The study was paused before any trial had finished."
        case StudyState.CANCELLED | StudyState.COMPLETED | StudyState.FAILED if p.finished == 0:
            return f"The study was {study.state.value} before any trial had finished."
        case _:
            parts = [
                f"{count(n)} {what}"
                for n, what in ((p.diverged, "diverged"), (p.failed, "failed"), (p.pruned, "pruned"), (p.cancelled, "cancelled"))
                if n
            ]
            return f"No trial has completed: of {plural(p.finished, 'finished trial')}, {', '.join(parts)}."
