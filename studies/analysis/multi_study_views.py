"""Analyses of several studies as immutable views: a suite, a comparison, a study and its replay."""

__all__ = [
    "Agreement",
    "AgreementWord",
    "ComparedArm",
    "Comparison",
    "MeanAgreement",
    "ProfilePoint",
    "StudyScore",
    "SuiteAnalysis",
    "SuiteArm",
    "SuiteStudy",
    "WinChance",
    "WordAgreement",
]

from typing import Literal

from pydantic import Field

from studies.analysis.views import AgeS, BudgetCurve, BudgetVerdict, Finding, PairVerdict, Word
from studies.direction import Direction
from studies.frozen_model import FrozenModel
from studies.space import Parameters
from studies.states import StudyState

AgreementWord = Literal["identical", "agrees", "partly", "disagrees"]


class SuiteStudy(FrozenModel):
    """One study of a suite."""

    study_id: str = Field(description="Its id.")
    name: str = Field(description="Its title.")
    state: StudyState = Field(description="Its state.")
    workload: str = Field(description="Name of its workload.")
    metric: str = Field(description="What its values measure.")
    unit: str = Field(description="Their unit.")
    direction: Direction = Field(description="Whether higher or lower values are better.")
    is_counted: bool = Field(
        description=(
            "Whether it counts in the suite: it has closed, and every arm of the suite has confirmed runs "
            "in it."
        )
    )
    why_not: str | None = Field(description="Why it does not count; null if it does.")


class StudyScore(FrozenModel):
    """An arm in one study of a suite."""

    study_id: str = Field(description="The study.")
    test_mean: float | None = Field(description="Confirmed mean test value, in the study's own unit.")
    relative: float | None = Field(
        description="The mean on the scale on which the study's worst arm has 0 and its best arm 1."
    )
    to_target: float | None = Field(
        description="Epochs to the target over those of the study's fastest arm; null if the arm missed it."
    )


class ProfilePoint(FrozenModel):
    """A point of a performance profile."""

    threshold: float = Field(description="A relative performance.")
    share: float = Field(
        description="Fraction of runs that are at least this good; studies have equal weights."
    )
    low: float | None = Field(description="Lower end of its 95 % interval (Wilson's score interval).")
    high: float | None = Field(description="Upper end of it.")


class SuiteArm(FrozenModel):
    """One arm across the studies of a suite."""

    arm: str = Field(description="Name of the arm, the same in every study.")
    optimizer: str = Field(description="Name of its optimizer in the first counted study.")
    scores: tuple[StudyScore, ...] = Field(description="Study by study.")
    iqm: float | None = Field(
        description=(
            "Interquartile mean of the relative performance of its confirmation runs over all studies."
        )
    )
    iqm_low: float | None = Field(
        description="Lower end of its 95 % interval (stratified bootstrap over runs, corrected for few)."
    )
    iqm_high: float | None = Field(description="Upper end of it.")
    budget_iqm: float | None = Field(
        default=None,
        description=(
            "Interquartile mean of the relative performance that `budget` trials of tuning reach; null "
            "without such a budget."
        ),
    )
    budget_iqm_low: float | None = Field(
        default=None,
        description="Lower end of its 95 % interval, as above over searches of `budget` trials.",
    )
    budget_iqm_high: float | None = Field(default=None, description="Upper end of it.")
    profile: tuple[ProfilePoint, ...] = Field(description="Performance profile.")
    algoperf: float | None = Field(
        description=(
            "AlgoPerf's score: mean over studies of clip((4 - r) / 3, 0, 1), r its "
            "time to target over the fastest arm's."
        )
    )


class WinChance(FrozenModel):
    """The chance that a run of one arm beats a run of another, in a random study of the suite."""

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    chance: float = Field(
        description="Mean over studies of the fraction of pairs of runs that the first wins; ties count half."
    )
    low: float | None = Field(
        description=(
            "Lower end of its 95 % interval (bootstrap over runs, corrected for few); null with too few."
        )
    )
    high: float | None = Field(description="Upper end of it.")


class SuiteAnalysis(FrozenModel):
    """The analysis of a suite: studies of several workloads and the arms that they share."""

    name: str = Field(description="Name of the suite.")
    studies: tuple[SuiteStudy, ...] = Field(description="Its studies, oldest first.")
    finding: Finding = Field(description="The finding and its limits.")
    arms: tuple[SuiteArm, ...] = Field(description="The arms that all counted studies have, best IQM first.")
    wins: tuple[WinChance, ...] = Field(description="Every pair of arms.")
    budget: int | None = Field(
        default=None,
        description=(
            "The tuning budget of `budget_iqm`, in trials: the smallest primary budget of the counted "
            "studies; null unless all of them are judged by paired trials."
        ),
    )
    age_s: AgeS = 0.0


class ComparedArm(FrozenModel):
    """An arm of one of the compared studies."""

    study_id: str = Field(description="Its study.")
    study_name: str = Field(description="The study's title.")
    arm: str = Field(description="Name of the arm.")
    label: str = Field(
        description=("Its name in `pairs`: the arm's name, with the study's id if two arms share the name.")
    )
    optimizer: str = Field(description="Name of the optimizer.")
    trials: int = Field(description="Trials of its search with a result: completed, pruned or diverged.")
    epochs: int = Field(description="Epochs of each trial.")
    best_value: float | None = Field(description="Best validation value of the search.")
    parameters: Parameters | None = Field(description="The configuration with that value.")
    defaults: Parameters = Field(description="The arm's defaults.")
    test_mean: float | None = Field(description="Confirmed mean test value.")
    test_low: float | None = Field(description="Lower end of its 95 % interval over seeds.")
    test_high: float | None = Field(description="Upper end of it.")
    runs: int = Field(description="Completed confirmation runs.")
    trials_drawn: tuple[str, ...] = Field(
        description=(
            "Ids of these runs, or without any that of the trial with the best value; "
            "`/v1/trials/{trial_id}/measurements` has their learning curves."
        )
    )


class Comparison(FrozenModel):
    """A comparison of arms of one workload, from one study or several."""

    workload: str = Field(description="Name of the workload.")
    metric: str = Field(description="What values measure.")
    unit: str = Field(description="Their unit.")
    direction: Direction = Field(description="Whether higher or lower values are better.")
    arms: tuple[ComparedArm, ...] = Field(
        description="The arms, best confirmed test value first; arms without one come last."
    )
    by_budget: BudgetVerdict | None = Field(
        default=None,
        description=(
            "Which arm is better after k trials of tuning; null unless all studies have the same seed, "
            "paired trials and primary budget, so that trials of different studies are pairs too."
        ),
    )
    why_no_budget_verdict: str | None = Field(
        default=None, description="Why `by_budget` is null, in a sentence; null if it is not."
    )
    curves: tuple[BudgetCurve, ...] = Field(
        description=(
            "The budget curve of each arm, by its label: of test values if all studies have enough paired "
            "trials, else of validation values."
        )
    )
    pairs: tuple[PairVerdict, ...] = Field(
        description=(
            "Every pair of confirmed arms; if all studies have enough paired trials, by their best "
            "configurations alone."
        )
    )
    cautions: tuple[str, ...] = Field(
        description=(
            "Differences between the studies apart from their arms, and what a choice of arms does to the "
            "words, each a sentence."
        )
    )
    age_s: AgeS = 0.0


class WordAgreement(FrozenModel):
    """One pair of arms in a study and in its replay."""

    first: str = Field(description="Name of one arm.")
    second: str = Field(description="Name of the other.")
    original: Word = Field(description="The first arm measured against the second.")
    replayed: Word = Field(description="The same in the replay.")


class MeanAgreement(FrozenModel):
    """One confirmed configuration's mean test value in a study and in its replay."""

    arm: str = Field(description="Name of the arm.")
    configuration: Literal["best", "defaults"] = Field(description="Which of its configurations.")
    replicate: int = Field(description="The repetition of the search that found it.")
    original: float | None = Field(description="Mean test value.")
    replayed: float | None = Field(description="The same in the replay.")
    allowed: float | None = Field(
        description=(
            "How far apart the two may be by chance: the root of the sum of the squared half widths of "
            "both intervals."
        )
    )
    is_within: bool | None = Field(
        description="Whether they are that close; null if a mean or an interval is missing."
    )


class Agreement(FrozenModel):
    """Whether a replayed study agrees with the original."""

    word: AgreementWord = Field(
        description=(
            "'identical': every figure that was compared is equal; 'agrees': same words, means as close as "
            "chance allows; 'partly': no verdict is reversed, but a word or mean differs; 'disagrees': a "
            "verdict is reversed, or the studies are not the same."
        )
    )
    agrees: bool = Field(description="Whether the word is 'identical' or 'agrees'.")
    budget_verdicts: tuple[WordAgreement, ...] = Field(
        default=(), description="Every pair of arms by tuning budget, where both studies have that verdict."
    )
    verdicts: tuple[WordAgreement, ...] = Field(
        description="Every pair of arms that both studies have, by its confirmation runs."
    )
    means: tuple[MeanAgreement, ...] = Field(
        description="Every confirmed configuration that both studies have."
    )
    is_search_equal: bool = Field(
        description=(
            "Whether the searches are identical, value for value. They are if everything is repeatable."
        )
    )
    sentences: tuple[str, ...] = Field(description="The findings, the most important first.")
