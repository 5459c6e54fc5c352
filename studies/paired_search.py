"""The paired search of a study: how many trials of each arm are paired, and the budget of its verdict."""

__all__ = [
    "LEAST_PAIRS",
    "TRIALS_PER_BUDGET",
    "PairedSearch",
    "UntilDecided",
    "default_budget",
    "default_pairs",
    "pairing_problems",
]

from collections.abc import Sequence
from typing import ClassVar, Final, Protocol

from pydantic import Field, ValidationInfo, field_validator

from studies.budget import MAX_TRIALS, Budget
from studies.errors import SpecProblem
from studies.formatting import plural
from studies.frozen_model import FrozenModel

LEAST_PAIRS: Final = 8
"""The fewest pairs of trials for which there is a budget verdict."""

TRIALS_PER_BUDGET: Final = 4
"""Pairs for each trial of the largest budget: with fewer, a difference has too few degrees of freedom."""


class _NamedArm(Protocol):
    @property
    def name(self) -> str: ...


class UntilDecided(FrozenModel):
    """How far pairs are added until the budget verdict has decided."""

    max_pairs: int = Field(
        gt=0,
        le=MAX_TRIALS,
        strict=True,
        description=(
            "The most pairs of each replicate. Those beyond `paired` come on top of `trials_per_arm`, and "
            "the sampler's trials follow them."
        ),
        examples=[64],
    )
    pairs: tuple[tuple[str, str], ...] | None = Field(
        default=None,
        min_length=1,
        description="The pairs of arms that are to be decided, by their names; by default every pair.",
        examples=[[["adamp", "adamw"]]],
    )
    drop_losers: bool = Field(
        default=False,
        strict=True,
        description="Whether an arm that is worse than all others takes part in no further pairs.",
    )


class PairedSearch(FrozenModel):
    """How the search of every arm begins: with random trials that are paired across arms."""

    hint_for_unknown: ClassVar[str] = "write the number of pairs as {paired: 32}"

    paired: int = Field(
        default=0,
        ge=0,
        le=MAX_TRIALS,
        strict=True,
        description=(
            "Paired trials of each arm in each replicate, after its default configuration. Trials of one "
            "pair share a seed, and hyperparameters of the same name take the same quantile of their ranges. "
            "With 0 the whole search belongs to the sampler."
        ),
        examples=[32],
    )
    replicates: int = Field(
        default=1,
        ge=1,
        le=1000,
        strict=True,
        description=(
            "Replicates whose pairs count for the budget verdict: those with which the study was submitted, "
            "or fewer."
        ),
    )
    verdict_at: int | None = Field(
        default=None,
        ge=1,
        strict=True,
        validate_default=True,
        description=(
            "The primary budget k: the budget verdict compares the arms after k tuning trials each. At most "
            "a quarter of the pairs; by default an eighth, at least 2. With fewer than "
            f"{LEAST_PAIRS} pairs there is none."
        ),
        examples=[4],
    )
    until: UntilDecided | None = Field(
        default=None,
        description=(
            "Add pairs until the arms are decided at the primary budget; without it the study judges its "
            "pairs once."
        ),
    )

    stopped_at: tuple[tuple[str, int], ...] = Field(
        default=(),
        description=(
            "Arms, each with the search trials that it had when the study was stopped among its pairs. An "
            "extension sets it: later pairs of these arms do not count for the budget verdict."
        ),
    )

    @property
    def pairs(self) -> int:
        """Pairs that count for the budget verdict, over all replicates; with `until` those before it."""
        return self.paired * self.replicates

    @property
    def most_added(self) -> int:
        """Pairs that may be added until the arms are decided, over all replicates."""
        return 0 if self.until is None else (self.until.max_pairs - self.paired) * self.replicates

    @field_validator("verdict_at")
    @classmethod
    def _within_the_pairs(cls, verdict_at: int | None, info: ValidationInfo) -> int | None:
        if not {"paired", "replicates"} <= info.data.keys():
            return verdict_at
        pairs: int = info.data["paired"] * info.data["replicates"]
        if verdict_at is None:
            return default_budget(pairs)
        if pairs < LEAST_PAIRS:
            raise ValueError(
                f"expected no primary budget, because {plural(pairs, 'pair')} of trials are fewer than the "
                f"{LEAST_PAIRS} that a budget verdict needs, got {verdict_at}; raise `paired`, or remove "
                "verdict_at"
            )
        if verdict_at * TRIALS_PER_BUDGET > pairs:
            raise ValueError(
                f"expected at most {pairs // TRIALS_PER_BUDGET}, a quarter of the {pairs} pairs, got "
                f"{verdict_at}; lower it, or raise `paired`"
            )
        return verdict_at

    @field_validator("until")
    @classmethod
    def _beyond_the_pairs(cls, until: UntilDecided | None, info: ValidationInfo) -> UntilDecided | None:
        if until is None or "verdict_at" not in info.data:
            return until
        paired: int = info.data["paired"]
        if info.data["verdict_at"] is None:
            raise ValueError(
                f"expected at least {LEAST_PAIRS} pairs before more are added, got "
                f"{paired * info.data['replicates']}; raise `paired`, or remove `until`"
            )
        if until.max_pairs <= paired:
            raise ValueError(
                f"expected max_pairs above the {paired} pairs with which the search begins, got "
                f"{until.max_pairs}; raise it, or lower `paired`"
            )
        return until


def default_budget(pairs: int) -> int | None:
    """Return the primary budget of a study that names none: an eighth of its pairs, at least 2.

    None if it has too few pairs for a budget verdict.

    Args:
        pairs: pairs of trials over all replicates.
    """
    return None if pairs < LEAST_PAIRS else max(2, round(pairs / 8))


def default_pairs(sampler: str, trials_per_arm: int, *, is_pruned: bool) -> int:
    """Return how many trials of each arm are paired in a study that does not say.

    With `grid` none, because a grid lists its configurations. With a pruner half of the budget, because
    paired trials are never pruned. Otherwise all but the defaults with the sampler `random`, and with the
    others half of the budget, but at least 32 if there are as many.

    Args:
        sampler: name of the study's sampler.
        trials_per_arm: trials of each arm in one replicate, including its defaults.
        is_pruned: whether the study has a pruner.
    """
    if sampler == "grid":
        return 0
    most = trials_per_arm - 1
    if is_pruned:
        return min(most, trials_per_arm // 2)
    return most if sampler == "random" else min(most, max(32, trials_per_arm // 2))


def pairing_problems(
    search: PairedSearch, sampler: str, budget: Budget, arms: Sequence[_NamedArm]
) -> list[SpecProblem]:
    """Return what is wrong with the pairs of a study that is submitted.

    A stored study may have fewer trials than pairs: one that was stopped early and then extended.

    Args:
        search: the pairs.
        sampler: name of the study's sampler.
        budget: the study's budget.
        arms: the study's arms.
    """
    trials_per_arm = budget.trials_per_arm
    if search.replicates > budget.replicates:
        message = (
            f"expected at most the {plural(budget.replicates, 'replicate')} of the budget, got "
            f"{search.replicates}; remove it, or raise the budget's `replicates`"
        )
        return [SpecProblem("/search/replicates", message)]
    if sampler == "grid" and search.paired:
        message = (
            f"expected 0, because the sampler 'grid' tries a list of configurations, got {search.paired}; "
            "use another sampler, or remove `paired`"
        )
    elif search.paired >= trials_per_arm:
        message = (
            f"expected at most {trials_per_arm - 1}, because the first of an arm's "
            f"{plural(trials_per_arm, 'trial')} is its default configuration, got {search.paired}; lower it, "
            f"or raise trials_per_arm to {search.paired + 1}"
        )
    else:
        return _problems_of_decisions(search.until, [arm.name for arm in arms])
    return [SpecProblem("/search/paired", message)]


def _problems_of_decisions(until: UntilDecided | None, arms: Sequence[str]) -> list[SpecProblem]:
    """Return what is wrong with the pairs of arms that are to be decided."""
    if until is None:
        return []
    if len(arms) < 2:
        message = (
            f"expected at least 2 arms to decide between, got {len(arms)}; add an arm, or remove `until`"
        )
        return [SpecProblem("/search/until", message)]
    problems: list[SpecProblem] = []
    earlier: set[frozenset[str]] = set()
    for n, (first, second) in enumerate(until.pairs or ()):
        pair = frozenset((first, second))
        got = f"got {first!r} and {second!r}"
        if len(pair) < 2 or not pair <= set(arms):
            message = f"expected two different arms of the study ({', '.join(arms)}), {got}"
            problems.append(SpecProblem(f"/search/until/pairs/{n}", message))
        elif pair in earlier:
            message = f"expected each pair of arms once, in either order, {got} again; remove one"
            problems.append(SpecProblem(f"/search/until/pairs/{n}", message))
        earlier.add(pair)
    return problems
