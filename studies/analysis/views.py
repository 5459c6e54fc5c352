"""What a study's analysis says: immutable views, the same for REST, command line, report and page.

Every value is in the workload's own unit and direction; a difference is "first less second" in that unit.
None stands for what cannot be said. What each number means, and what it does not, is in `docs/statistics.md`.
"""

__all__ = [
    "ArmRank",
    "ArmSensitivity",
    "BudgetCurve",
    "BudgetPoint",
    "Check",
    "CheckKind",
    "Confirmed",
    "ConfirmedRun",
    "CurveMethod",
    "Finding",
    "GoodRange",
    "IsolationPoint",
    "PairVerdict",
    "RankFlip",
    "StudyAnalysis",
    "TimeToTarget",
    "Tunability",
    "Word",
]

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from studies.direction import Direction
from studies.space import Parameters
from studies.states import StudyState, TrialState

Word = Literal["better", "worse", "undecided"]
CurveMethod = Literal["expected best of k", "best so far", "median of replicates"]
CheckKind = Literal[
    "edge-of-space",
    "divergence",
    "under-tuned",
    "too-few-trials",
    "inert-hyperparameter",
    "unequal-budgets",
    "still-improving",
    "splits-disagree",
    "faults",
]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConfirmedRun(_View):
    """One confirmation trial: a configuration trained once more, on a fresh seed."""

    trial_id: str = Field(description="Id of the trial.")
    seed: int = Field(description="Its seed; the same in every arm.")
    state: TrialState = Field(description="Where it stands.")
    validation_value: float | None = Field(description="Validation metric at the objective's epoch.")
    test_value: float | None = Field(description="Test metric at the same epoch.")


class Confirmed(_View):
    """One configuration of an arm on fresh seeds."""

    arm: str = Field(description="Name of the arm.")
    configuration: Literal["best", "defaults"] = Field(
        description="The best of the search by validation, or the arm's defaults."
    )
    replicate: int = Field(description="The repetition of the search that found it, from 0.")
    number: int = Field(description="Number of the search's trial that it comes from.")
    parameters: Parameters = Field(description="The configuration.")
    seeds: int = Field(description="Fresh seeds it is to be trained on.")
    completed: int = Field(description="Runs that were trained to their last epoch.")
    diverged: int = Field(description="Runs that diverged: results, though without a value.")
    test_mean: float | None = Field(description="Mean test value over the completed runs.")
    test_low: float | None = Field(
        description="Lower end of its 95 % interval over seeds (Student's t); none below two runs."
    )
    test_high: float | None = Field(description="Upper end of it.")
    test_sd: float | None = Field(
        description="Standard deviation of one run's test value; none below two runs."
    )
    validation_mean: float | None = Field(description="Mean validation value over the completed runs.")
    search_value: float | None = Field(
        description="Validation value that the search saw; none where that trial has none."
    )
    shrinkage: float | None = Field(
        description=(
            "By how much the search's value was better than the mean validation value on fresh seeds; "
            "positive: it was too good to be true."
        )
    )
    runs: tuple[ConfirmedRun, ...] = Field(description="The runs, in the order of their seeds.")


class PairVerdict(_View):
    """Which of two arms is better, as far as their confirmed best configurations tell."""

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    word: Word = Field(description="What the first is, measured against the second.")
    n: int = Field(description="Pairs of runs on equal seeds, or replicates, that the comparison rests on.")
    difference: float | None = Field(
        description="Mean of the paired differences in the test value, first less second."
    )
    low: float | None = Field(
        description=(
            "Lower end of its 95 % interval; covers the seeds and, as `covers` says, the luck of the search."
        )
    )
    high: float | None = Field(description="Upper end of it.")
    seeds_low: float | None = Field(
        description=(
            "Lower end of the 95 % interval of these two configurations alone: over seeds, search given."
        )
    )
    seeds_high: float | None = Field(description="Upper end of it.")
    p: float | None = Field(description="Two-sided p-value.")
    p_holm: float | None = Field(
        description=(
            "The same after Holm's correction over all pairs of the study; below "
            "0.05 the word is not 'undecided'."
        )
    )
    effect_size: float | None = Field(
        description=(
            "Mean difference over the standard deviation of the differences, "
            "with Hedges' small-sample factor."
        )
    )
    method: str = Field(description="How p was computed.")
    covers: Literal["seeds and search", "replicates", "signs"] = Field(
        description="Which luck the interval and p allow for."
    )
    reason: str = Field(description="The word in a sentence, with its figures.")


class ArmRank(_View):
    """The place of an arm among all, 1 the best."""

    arm: str = Field(description="Name of the arm.")
    rank: float = Field(
        description="Place by confirmed mean test value; arms that are level share the mean of their places."
    )
    low: int = Field(
        description="Best place that it may have: one more than the arms that are better beyond doubt."
    )
    high: int = Field(description="Worst place that it may have.")


class Finding(_View):
    """What a study found, in one sentence, and its limits."""

    sentence: str = Field(description="The finding.")
    winner: str | None = Field(
        description="The arm that is better than every other; none while that is undecided."
    )
    limits: tuple[str, ...] = Field(
        description="What a reader has to know before trusting it, each a sentence."
    )


class BudgetPoint(_View):
    """What a budget of so many trials reaches."""

    trials: int = Field(description="Trials spent, from 1.")
    epochs: float = Field(
        description="Epochs that so many trials take, on average where they are exchangeable."
    )
    elapsed_s: float = Field(description="Training seconds that so many trials take, likewise.")
    value: float | None = Field(
        description="Best validation value by then; none while every trial has diverged."
    )
    low: float | None = Field(
        default=None, description="Lower end of the 95 % band; none where no valid band exists."
    )
    high: float | None = Field(default=None, description="Upper end of it.")


class BudgetCurve(_View):
    """What an arm's search reaches by its budget."""

    arm: str = Field(description="Name of the arm.")
    method: CurveMethod = Field(description="How the values were computed.")
    band: str | None = Field(description="What the band is, in a few words; none where there is none.")
    points: tuple[BudgetPoint, ...] = Field(
        description="In the order of budgets; steps without a change may be left out."
    )


class RankFlip(_View):
    """A budget at which the leading arm changes."""

    trials: int = Field(description="From so many trials on, the new one leads.")
    before: str = Field(description="Arm that led until then.")
    after: str = Field(description="Arm that leads from then on.")


class Check(_View):
    """Something to know beside the ranking."""

    kind: CheckKind = Field(description="What was checked.")
    arm: str | None = Field(description="Arm that it is about; none where it is about the study.")
    is_warning: bool = Field(
        description="Whether it puts the comparison in doubt; else it is for information."
    )
    sentence: str = Field(description="The finding, with its figures.")
    figures: dict[str, float] = Field(default_factory=dict[str, float], description="The figures.")
    spec: dict[str, Any] | None = Field(
        default=None, description="A study, ready to submit, that would settle it; none where there is none."
    )


class IsolationPoint(_View):
    """The best that was reached with one hyperparameter in one bucket, the others free."""

    low: float = Field(description="Lower end of the bucket.")
    high: float = Field(description="Upper end of it.")
    trials: int = Field(description="Trials in it.")
    diverged: int = Field(description="Trials in it that diverged.")
    best: float | None = Field(description="Best validation value in it; none where no trial has one.")
    number: int | None = Field(description="Number of the trial that reached it.")


class GoodRange(_View):
    """Over what stretch of the learning rate an arm stays near its best."""

    within: float = Field(description="How near, as a share of the best value: 0.01 stands for 1 %.")
    low: float = Field(description="Lowest learning rate whose bucket's best is that near.")
    high: float = Field(description="Highest one, without a gap from `low`.")
    factor: float | None = Field(description="high / low; none where low is 0.")


class Tunability(_View):
    """What tuning was worth to an arm."""

    defaults_value: float | None = Field(
        description="Validation value of the defaults in the search; none where they diverged."
    )
    defaults_rank: int | None = Field(description="Place of the defaults among the arm's trials, 1 the best.")
    gain: float | None = Field(
        description="By how much the best validation value is better than the defaults'."
    )
    baseline: str | None = Field(
        description="Arm whose defaults are the baseline to beat: the study's first."
    )
    chance_to_beat: dict[int, float] = Field(
        default_factory=dict[int, float],
        description=(
            "Chance that the best of so many random trials beats the baseline; empty for adaptive samplers."
        ),
    )


class ArmSensitivity(_View):
    """How an arm's result hangs on its hyperparameters."""

    arm: str = Field(description="Name of the arm.")
    lr: tuple[IsolationPoint, ...] = Field(
        description="The learning rate's isolation curve; empty where it was not searched."
    )
    good_range: GoodRange | None = Field(
        description="None where the learning rate was not searched or nothing completed."
    )
    importances: dict[str, float] = Field(
        description=(
            "Share of each searched hyperparameter, adding up to 1 (PED-ANOVA); empty with too few trials."
        )
    )
    tunability: Tunability = Field(description="What tuning was worth.")


class TimeToTarget(_View):
    """How soon an arm's confirmed best configuration reaches the workload's target.

    The target is one on the validation split.
    """

    arm: str = Field(description="Name of the arm.")
    target: float = Field(description="The workload's target.")
    runs: int = Field(description="Confirmation runs that have ended.")
    reached: int = Field(description="Those that reached it; the others are misses.")
    epochs_median: float | None = Field(
        description="Median epochs to it, a miss counted as never; none where half or more missed."
    )
    elapsed_s_median: float | None = Field(description="Median training seconds to it, likewise.")
    is_solo: bool = Field(
        description="Whether every run was trained by itself; else seconds are shares of a pack's."
    )


class StudyAnalysis(_View):
    """Everything that a study's record says of its arms."""

    study_id: str = Field(description="Id of the study.")
    name: str = Field(description="Its title.")
    state: StudyState = Field(description="Where it stands.")
    workload: str = Field(description="Name of its workload.")
    metric: str = Field(description="What values measure.")
    unit: str = Field(description="Their unit.")
    direction: Direction = Field(description="Which way they are better.")
    arms: tuple[str, ...] = Field(description="Names of the arms, in the study's order.")
    labels: dict[str, str] = Field(
        default_factory=dict[str, str],
        description=(
            "What sentences call each arm: its optimizer's title, or its own name "
            "where it is not named for its optimizer."
        ),
    )
    finding: Finding = Field(description="The finding and its limits.")
    confirmed: tuple[Confirmed, ...] = Field(
        description="Confirmed configurations, arm by arm, the best before the defaults."
    )
    ranks: tuple[ArmRank, ...] = Field(
        description="Places by confirmed test value, best first; empty until every arm has one."
    )
    pairs: tuple[PairVerdict, ...] = Field(description="Every pair of arms, in the study's order.")
    curves: tuple[BudgetCurve, ...] = Field(description="Budget curves, arm by arm.")
    flips: tuple[RankFlip, ...] = Field(description="Budgets at which the lead changes.")
    checks: tuple[Check, ...] = Field(description="What to know beside the ranking, warnings first.")
    sensitivity: tuple[ArmSensitivity, ...] = Field(description="Arm by arm.")
    time_to_target: tuple[TimeToTarget, ...] = Field(
        description="Arm by arm, for those with confirmation runs."
    )
