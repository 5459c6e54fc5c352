"""The analysis of one study as immutable views: the same for REST, command line, report and page.

Every value is in the workload's own unit and direction; a difference is "first minus second" in that unit.
None stands for a value that is not known. `docs/statistics.md` explains what each number means, and what
it does not.
"""

__all__ = [
    "AgeS",
    "ArmAtBudget",
    "ArmRank",
    "ArmSensitivity",
    "BudgetCurve",
    "BudgetPoint",
    "BudgetRange",
    "BudgetState",
    "BudgetVerdict",
    "Check",
    "CheckKind",
    "Confirmed",
    "ConfirmedRun",
    "CurveMethod",
    "DifferenceByBudget",
    "DifferencePoint",
    "Finding",
    "FurtherMetric",
    "GoodRange",
    "IsolationPoint",
    "MetricOfConfiguration",
    "PairByBudget",
    "PairVerdict",
    "RankFlip",
    "StudyAnalysis",
    "TimeToTarget",
    "Tunability",
    "Word",
]

from typing import Annotated, Any, Literal

from pydantic import Field

from studies.analysis.failures import FailureGroup
from studies.direction import Direction
from studies.frozen_model import FrozenModel
from studies.live_views import NarrowedDifference
from studies.space import Parameters
from studies.states import StudyState, TrialState
from studies.statistics.verdict import ArmRank, PairJudgement, Word

AgeS = Annotated[
    float,
    Field(
        ge=0,
        description=(
            "Seconds since the studies were read for this analysis; 0 if they have not changed since. The "
            "analysis of an open study may be behind while a new one is computed; that of a closed study is "
            "not."
        ),
    ),
]
"""The age of an analysis."""

CurveMethod = Literal[
    "expected best of k", "best so far", "median of replicates", "expected test value of the choice"
]
BudgetState = Literal["too few pairs", "in progress", "judged"]
CheckKind = Literal[
    "no-usable-value",
    "workload-check",
    "card-differs",
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


class ConfirmedRun(FrozenModel):
    """One confirmation trial: a configuration trained once more, on a fresh seed."""

    trial_id: str = Field(description="Id of the trial.")
    seed: int = Field(description="Its seed; the same in every arm.")
    state: TrialState = Field(description="Its state.")
    validation_value: float | None = Field(description="Validation metric at the objective's epoch.")
    test_value: float | None = Field(description="Test metric at the same epoch.")


class Confirmed(FrozenModel):
    """One configuration of an arm on fresh seeds."""

    arm: str = Field(description="Name of the arm.")
    configuration: Literal["best", "defaults"] = Field(
        description="The best of the search by validation, or the arm's defaults."
    )
    replicate: int = Field(description="The repetition of the search that found it, from 0.")
    number: int = Field(description="Number of the trial of the search that it comes from.")
    parameters: Parameters = Field(description="The configuration.")
    seeds: int = Field(description="Fresh seeds that it is to be trained on.")
    completed: int = Field(description="Runs that were trained to their last epoch.")
    diverged: int = Field(description="Runs that diverged: results without a value.")
    test_mean: float | None = Field(description="Mean test value over the completed runs.")
    test_low: float | None = Field(
        description=(
            "Lower end of its 95 % interval over seeds (Student's t), which may lie beyond the metric's "
            "bounds; null below two runs."
        )
    )
    test_high: float | None = Field(description="Upper end of it.")
    test_sd: float | None = Field(
        description="Standard deviation of one run's test value; null below two runs."
    )
    validation_mean: float | None = Field(description="Mean validation value over the completed runs.")
    search_value: float | None = Field(
        description="Validation value that the search saw; null if that trial has none."
    )
    shrinkage: float | None = Field(
        description=(
            "By how much the search's value was better than the mean validation value on fresh seeds; "
            "positive: it was too good to be true."
        )
    )
    runs: tuple[ConfirmedRun, ...] = Field(description="The runs, in the order of their seeds.")


class PairVerdict(PairJudgement):
    """Which of two arms is better, in a sentence too."""

    reason: str = Field(description="The verdict in a sentence, with its figures.")


class Finding(FrozenModel):
    """The finding of a study or suite, and its limits."""

    sentence: str = Field(description="The finding: all of `sentences`, one after the other.")
    sentences: tuple[str, ...] = Field(
        default=(),
        description=(
            "The sentences of the finding. With paired trials: which optimizer is better, then which "
            "configuration to ship; otherwise a single one."
        ),
    )
    winner: str | None = Field(
        description="The arm that is better than every other; null while that is undecided."
    )
    ship: str | None = Field(
        default=None,
        description=(
            "The arm whose best configuration has the best mean on fresh seeds; null without paired trials, "
            "and before its configurations are confirmed."
        ),
    )
    limits: tuple[str, ...] = Field(description="The limits of the finding, each a sentence.")


class BudgetPoint(FrozenModel):
    """What a budget of a number of trials reaches."""

    trials: int = Field(description="Trials spent, from 1.")
    epochs: float = Field(
        description="Epochs that these trials take; the average if trials are exchangeable."
    )
    elapsed_s: float = Field(description="Training seconds that these trials take, counted the same way.")
    value: float | None = Field(
        description=(
            "Best validation value by then, or the expected test value of the choice, as `method` says; null "
            "while every trial has diverged."
        )
    )
    low: float | None = Field(
        default=None, description="Lower end of the 95 % band; null where no valid band exists."
    )
    high: float | None = Field(default=None, description="Upper end of it.")


class BudgetCurve(FrozenModel):
    """What an arm's search reaches with each budget."""

    arm: str = Field(description="Name of the arm.")
    method: CurveMethod = Field(description="How the values were computed.")
    band: str | None = Field(description="What the band is, in a few words; null if there is none.")
    points: tuple[BudgetPoint, ...] = Field(
        description="By ascending budget; steps without a change may be left out."
    )


class ArmAtBudget(FrozenModel):
    """An arm after the primary number of trials of tuning."""

    arm: str = Field(description="Name of the arm.")
    trials: int = Field(description="Its paired trials with a result.")
    diverged: int = Field(description="Those of them that diverged.")
    value: float | None = Field(
        description="Expected test value of the best of `primary` trials by validation; null with too few."
    )
    rank: float = Field(description="Rank by that value; tied arms share the mean of their ranks.")
    low: int = Field(description="Best rank that the verdict allows: one more than the arms that are better.")
    high: int = Field(description="Worst rank that it allows: the number of arms less those that are worse.")


class PairByBudget(FrozenModel):
    """Which of two optimizers is better after the primary number of trials of tuning."""

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    word: Word = Field(description="The first arm measured against the second.")
    n: int = Field(description="Pairs of trials in which both arms have a result.")
    difference: float | None = Field(
        description=(
            "Expected test value of the best of `primary` trials by validation, first minus second; null "
            "with too few pairs."
        )
    )
    low: float | None = Field(
        description=(
            "Lower end of its 95 % interval, for this pair of arms alone; at a look it covers in "
            "1 - `level`. Null where the difference does not vary."
        )
    )
    high: float | None = Field(description="Upper end of it.")
    p: float | None = Field(description="Two-sided p-value; null where no test is possible.")
    p_corrected: float | None = Field(
        description=(
            "The p-value corrected over all pairs of arms (of a further metric: over all pairs by all of "
            "them); below 0.05, or at a look below `level`, the word is not 'undecided'."
        )
    )
    look: int | None = Field(
        default=None,
        description=(
            "Pairs of trials at the look that decided it, or at the last one; null unless pairs are added "
            "until the arms are decided."
        ),
    )
    level: float | None = Field(
        default=None, description="The level of that look, below 0.05; null without a look."
    )
    reason: str = Field(description="The verdict in a sentence, with its figures.")


class BudgetRange(FrozenModel):
    """Budgets at which the band of a difference shows one arm to be better."""

    better: str = Field(description="Name of the better arm.")
    worse: str = Field(description="Name of the other.")
    low: int = Field(description="Smallest budget of the range, in trials.")
    high: int = Field(description="Largest budget of it; the band excludes 0 at every budget in between.")


class DifferencePoint(FrozenModel):
    """The difference of two arms after a number of trials of tuning."""

    trials: int = Field(description="Trials of tuning, from 1.")
    difference: float = Field(description="Expected test value of the choice, first minus second.")
    low: float | None = Field(
        description="Lower end of the simultaneous band; null where the difference does not vary."
    )
    high: float | None = Field(description="Upper end of it.")


class DifferenceByBudget(FrozenModel):
    """The difference of two arms over all budgets.

    Its 95 % band is simultaneous over all budgets and all pairs of arms.
    """

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    points: tuple[DifferencePoint, ...] = Field(description="By ascending budget.")
    ranges: tuple[BudgetRange, ...] = Field(
        description="Where the band excludes 0, by ascending budget; empty if it does so nowhere."
    )
    is_reversed: bool = Field(
        description="Whether the band shows each of the two to be better, at different budgets."
    )
    sentence: str = Field(description="The ranges in a sentence.")


class BudgetVerdict(FrozenModel):
    """Which optimizer is better after k trials of tuning, by the paired trials of every arm.

    A tuning budget of k trials reaches the test value of the best of them by validation.
    """

    state: BudgetState = Field(
        description=(
            "'too few pairs': the study has too few for any verdict; 'in progress': not all of its paired "
            "trials have ended, so no arm is judged yet; 'judged': the arms are."
        )
    )
    why_none: str | None = Field(description="Why no arm is judged, in a sentence; null if the arms are.")
    primary: int | None = Field(
        description=(
            "The budget at which the words are given, in trials; fixed when the study was submitted. Null "
            "with too few pairs."
        )
    )
    planned: int = Field(
        description=(
            "Pairs of trials that the verdict rests on when all have ended; if pairs are added until the "
            "arms are decided, those of the next look or of the last one."
        )
    )
    looks: tuple[int, ...] = Field(
        default=(),
        description="Pairs of trials at each look, if pairs are added until the arms are decided.",
    )
    n: int = Field(description="Those of them in which every arm has a result.")
    ended: int = Field(description="Those of them that have ended in every arm, also without a result.")
    diverged_value: float | None = Field(
        description=(
            "Test value that a diverged trial counts with, the same in every arm; null if none diverged."
        )
    )
    arms: tuple[ArmAtBudget, ...] = Field(description="Best first; empty unless judged.")
    pairs: tuple[PairByBudget, ...] = Field(
        description="Every pair of arms at the primary budget, in the study's order; empty unless judged."
    )
    differences: tuple[DifferenceByBudget, ...] = Field(
        description="The same pairs over all budgets; empty unless judged."
    )


class MetricOfConfiguration(FrozenModel):
    """A further metric of a confirmed configuration on the test split."""

    arm: str = Field(description="Name of the arm.")
    configuration: Literal["best", "defaults"] = Field(description="As in `confirmed`.")
    replicate: int = Field(description="As in `confirmed`.")
    completed: int = Field(description="Runs with a value.")
    mean: float | None = Field(description="Mean over these runs, at the objective's epoch.")
    low: float | None = Field(
        description="Lower end of its 95 % interval over seeds (Student's t); null below two runs."
    )
    high: float | None = Field(description="Upper end of it.")


class FurtherMetric(FrozenModel):
    """A metric of the workload beside the study's objective."""

    name: str = Field(description="Name of the metric.")
    unit: str = Field(description="Its unit.")
    direction: Direction = Field(description="Whether higher or lower values are better.")
    confirmed: tuple[MetricOfConfiguration, ...] = Field(
        description="Confirmed configurations, in the order of the study's `confirmed`."
    )
    is_compared: bool = Field(description="Whether the study asks to compare the arms by it.")
    pairs: tuple[PairVerdict, ...] = Field(
        description=(
            "Every pair of arms by this metric, if it is compared. p_holm is corrected over all pairs of all "
            "metrics that the study compares beside its objective."
        )
    )
    by_budget: tuple[PairByBudget, ...] = Field(
        default=(),
        description=(
            "Every pair of arms by this metric at the study's primary budget, if it is compared; the trial "
            "is chosen by the objective. Empty until the study's own budget verdict is given."
        ),
    )


class RankFlip(FrozenModel):
    """A budget at which the leading arm changes."""

    trials: int = Field(description="Number of trials from which on the new arm leads.")
    before: str = Field(description="Arm that leads with fewer trials.")
    after: str = Field(description="Arm that leads from this number on.")


class Check(FrozenModel):
    """The result of a check beside the ranking."""

    kind: CheckKind = Field(description="What was checked.")
    arm: str | None = Field(description="Arm that it is about; null if it is about the study.")
    is_warning: bool = Field(
        description="Whether it puts the comparison in doubt; otherwise it is for information."
    )
    sentence: str = Field(description="The finding, with its figures.")
    figures: dict[str, float] = Field(default_factory=dict[str, float], description="The figures.")
    spec: dict[str, Any] | None = Field(
        default=None, description="A study, ready to submit, that would settle it; null if there is none."
    )


class IsolationPoint(FrozenModel):
    """The best value with one hyperparameter in one bucket, whatever the others were."""

    low: float = Field(description="Lower end of the bucket.")
    high: float = Field(description="Upper end of it.")
    trials: int = Field(description="Trials in it.")
    diverged: int = Field(description="Trials in it that diverged.")
    best: float | None = Field(description="Best validation value in it; null if no trial has one.")
    number: int | None = Field(description="Number of the trial that reached it.")


class GoodRange(FrozenModel):
    """The range of learning rates in which an arm stays near its best value."""

    within: float = Field(description="How near, as a fraction of the best value: 0.01 stands for 1 %.")
    low: float = Field(description="Lowest learning rate of the range.")
    high: float = Field(
        description="Highest learning rate of the range; no bucket in between is farther from the best value."
    )
    factor: float | None = Field(description="high / low; null if low is 0.")


class Tunability(FrozenModel):
    """What tuning gained an arm."""

    defaults_value: float | None = Field(
        description="Validation value of the defaults in the search; null if they diverged."
    )
    defaults_rank: int | None = Field(
        description="Rank of the defaults among the arm's trials; 1 is the best."
    )
    gain: float | None = Field(
        description="By how much the best validation value is better than that of the defaults."
    )
    baseline: str | None = Field(
        description="Arm whose defaults are the baseline to beat: the study's first."
    )
    chance_to_beat: dict[int, float] = Field(
        default_factory=dict[int, float],
        description=(
            "Chance that the best of a number of random trials beats the baseline, by that number; "
            "empty for adaptive samplers."
        ),
    )


class ArmSensitivity(FrozenModel):
    """How an arm's result depends on its hyperparameters."""

    arm: str = Field(description="Name of the arm.")
    lr: tuple[IsolationPoint, ...] = Field(
        description="The learning rate's isolation curve; empty if it was not searched."
    )
    good_range: GoodRange | None = Field(
        description="Null if the learning rate was not searched or no trial completed."
    )
    importances: dict[str, float] = Field(
        description=(
            "Importance of each searched hyperparameter (PED-ANOVA), adding up to 1; empty with too "
            "few trials."
        )
    )
    tunability: Tunability = Field(description="What tuning gained.")


class TimeToTarget(FrozenModel):
    """The time in which an arm's confirmed best configuration reaches the workload's target.

    The target is a value on the validation split.
    """

    arm: str = Field(description="Name of the arm.")
    target: float = Field(description="The workload's target.")
    runs: int = Field(description="Confirmation runs that have ended.")
    reached: int = Field(description="Runs that reached the target; the others are misses.")
    epochs_median: float | None = Field(
        description="Median epochs to the target, a miss counted as never; null if half or more missed."
    )
    elapsed_s_median: float | None = Field(
        description="Median training seconds to the target, counted the same way."
    )
    is_solo: bool = Field(
        description="Whether every run was trained alone; otherwise its seconds are a part of its pack's."
    )


class StudyAnalysis(FrozenModel):
    """The analysis of a study."""

    study_id: str = Field(description="Id of the study.")
    name: str = Field(description="Its title.")
    state: StudyState = Field(description="Its state.")
    workload: str = Field(description="Name of its workload.")
    metric: str = Field(description="What values measure.")
    unit: str = Field(description="Their unit.")
    direction: Direction = Field(description="Whether higher or lower values are better.")
    arms: tuple[str, ...] = Field(description="Names of the arms, in the study's order.")
    labels: dict[str, str] = Field(
        default_factory=dict[str, str],
        description=(
            "Name of each arm in sentences: its optimizer's title, or its own name "
            "if it is not named after its optimizer."
        ),
    )
    finding: Finding = Field(description="The finding and its limits.")
    confirmed: tuple[Confirmed, ...] = Field(
        description="Confirmed configurations, arm by arm, the best before the defaults."
    )
    by_budget: BudgetVerdict | None = Field(
        default=None,
        description="Which optimizer is better after k trials of tuning; null without paired trials.",
    )
    narrowing: tuple[NarrowedDifference, ...] = Field(
        default=(),
        description=(
            "How the differences to the leading arm have narrowed with the pairs of trials so far, which is "
            "not a verdict; empty once the study has closed, and before enough pairs have ended."
        ),
    )
    ranks: tuple[ArmRank, ...] = Field(
        description="Ranks by confirmed test value, best first; empty until every arm has one."
    )
    pairs: tuple[PairVerdict, ...] = Field(
        description=(
            "Every pair of arms by its best configurations on fresh seeds, in the study's order. With paired "
            "trials it is a verdict on these configurations, else on the optimizers."
        )
    )
    metrics: tuple[FurtherMetric, ...] = Field(
        default=(), description="The workload's metrics beside the objective, in the card's order."
    )
    curves: tuple[BudgetCurve, ...] = Field(
        description="Budget curves, arm by arm; with enough paired trials, those that the verdict compares."
    )
    flips: tuple[RankFlip, ...] = Field(
        description=(
            "Budgets at which the lead by validation changes; empty where `by_budget` says which lead holds."
        )
    )
    checks: tuple[Check, ...] = Field(description="Results of the checks, warnings first.")
    sensitivity: tuple[ArmSensitivity, ...] = Field(description="Arm by arm.")
    time_to_target: tuple[TimeToTarget, ...] = Field(
        description="Arm by arm, for arms with confirmation runs."
    )
    failures: tuple[FailureGroup, ...] = Field(
        default=(),
        description=(
            "Trials and confirmation runs that failed, diverged or were cancelled, grouped by reason; at "
            "most 30 groups."
        ),
    )
    age_s: AgeS = 0.0
