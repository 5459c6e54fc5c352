"""One check in place of one for each arm, where the same holds for all arms."""

__all__ = ["with_common_checks"]

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from studies.analysis.study_results import StudyResults
from studies.analysis.views import Check, CheckKind
from studies.formatting import count, difference_range, listed, percent, plural, scalar


def with_common_checks(results: StudyResults, checks: Sequence[Check]) -> list[Check]:
    """Return the checks with a single sentence of each kind that is reported of every arm of several.

    Args:
        results: the study.
        checks: the checks of each arm.
    """
    found: list[Check] = []
    done: set[CheckKind] = set()
    for check in checks:
        alike = [each for each in checks if each.kind == check.kind]
        share = _SHARED.get(check.kind)
        if share is None or len(results.arms) < 2 or len(alike) < len(results.arms):
            found.append(check)
        elif check.kind not in done:
            done.add(check.kind)
            found.append(
                Check(
                    kind=check.kind,
                    arm=None,
                    is_warning=any(each.is_warning for each in alike),
                    sentence=share(results, alike),
                    figures={
                        f"{each.arm}.{name}": value for each in alike for name, value in each.figures.items()
                    },
                )
            )
    return found


def _too_few_trials(results: StudyResults, checks: Sequence[Check]) -> str:
    """Return the sentence of searches that are too short."""
    trials, dimensions = ([int(check.figures[name]) for check in checks] for name in ("trials", "dimensions"))
    arms = "Both arms" if len(results.arms) == 2 else f"All {count(len(results.arms))} arms"
    sizes = f"{_span(trials, 'trial')} for {_span(dimensions, 'hyperparameter')}"
    return (
        f"{arms} have fewer trials than ten for each searched hyperparameter, a rule of thumb for computer "
        f"experiments (Loeppky et al. 2009): {sizes}. Larger searches may find much better configurations."
    )


def _divergence(results: StudyResults, checks: Sequence[Check]) -> str:
    """Return the sentence of trials that diverged."""
    parts: list[str] = []
    for check in checks:
        figures = check.figures
        diverged, trials = (count(int(figures[name])) for name in ("diverged", "trials"))
        part = f"{diverged} of {trials} with {_label(results, check)}"
        if "lr_from" in figures:
            part += f" (lr ≥ {scalar(figures['lr_from'])})"
        if "confirmations" in figures:
            part += f" and {plural(int(figures['confirmations']), 'confirmation run')}"
        parts.append(part)
    return f"Trials diverged in every arm: {listed(parts, most=len(parts))}."


def _inert(results: StudyResults, checks: Sequence[Check]) -> str:
    """Return the sentence of hyperparameters that were searched without effect."""
    parts = [f"{listed(list(check.figures))} of {_label(results, check)}" for check in checks]
    return (
        "Every arm searches hyperparameters that made hardly any difference, or none in its best trials: "
        f"{'; '.join(parts)}. Fix them to spend the trials on the hyperparameters that matter."
    )


def _still_improving(results: StudyResults, checks: Sequence[Check]) -> str:
    """Return the sentence of training that had not converged."""
    gains, shares, last = (
        [check.figures[name] for check in checks] for name in ("gain", "share", "last_epochs")
    )
    low, high = percent(min(shares)), percent(max(shares))
    part = low if low == high else f"{low} to {high}"
    return (
        "Every arm was still improving: its best configuration gained "
        f"{difference_range(min(gains), max(gains), results.card.unit)} in the last "
        f"{plural(int(max(last)), 'epoch')}, {part} of the gain since the first. More epochs "
        "might change the order of the arms."
    )


def _span(values: Sequence[int], noun: str) -> str:
    low, high = min(values), max(values)
    return plural(low, noun) if low == high else f"{count(low)} to {plural(high, noun)}"


def _label(results: StudyResults, check: Check) -> str:
    assert check.arm is not None, "each check is about an arm"
    return results.arm(check.arm).label


_SHARED: Final[Mapping[CheckKind, Callable[[StudyResults, Sequence[Check]], str]]] = {
    "too-few-trials": _too_few_trials,
    "divergence": _divergence,
    "inert-hyperparameter": _inert,
    "still-improving": _still_improving,
}
