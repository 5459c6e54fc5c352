"""Arms that lose to an arm they contain.

An optimizer that can reproduce another one, yet does worse, was tuned less well.
"""

__all__ = ["UnderTunedArm", "under_tuned_arms"]

from collections.abc import Sequence
from dataclasses import dataclass

from studies.analysis.study_results import ArmResults, ConfirmedConfiguration, StudyResults
from studies.analysis.wording import settings
from studies.catalog import Containment
from studies.space import Parameters
from studies.statistics.verdict import PairJudgement


@dataclass(frozen=True, kw_only=True)
class UnderTunedArm:
    """An arm that is behind an arm it contains.

    Attributes:
        arm: the arm that is behind.
        other: the arm that it contains.
        at: settings at which both are the same algorithm.
        is_certain: whether the verdict calls it worse; otherwise it is behind only in the search.
        outside: the part of the contained arm's best configuration, or of `at`, that this arm's space leaves
            out. If empty, its search could have found that configuration.
        behind: by how much it is behind, in the metric's unit, positive: by confirmed means if certain, else
            by the best values of the search.
    """

    arm: ArmResults
    other: ArmResults
    at: Parameters
    is_certain: bool
    outside: Parameters
    behind: float | None

    @property
    def is_under_tuned(self) -> bool:
        """Whether the arm's own space holds the better configuration, so that its search missed it."""
        return self.is_certain and not self.outside

    @property
    def identity(self) -> str:
        """The clause that says where the two arms are the same algorithm."""
        return f"{self.arm.label} is identical to {self.other.label} at {settings(self.at)}"

    @property
    def clause(self) -> str:
        """The qualification that the verdict needs, without a full stop."""
        if self.is_under_tuned:
            return f"{self.identity}, which its space includes: it is under-tuned, not worse"
        excluded = (
            "which its space excludes"
            if self.outside == self.at
            else f"and its space excludes {settings(self.outside)}"
        )
        return f"{self.identity}, {excluded}: the verdict applies to {self.arm.label} as it was searched"


def under_tuned_arms(results: StudyResults, pairs: Sequence[PairJudgement]) -> tuple[UnderTunedArm, ...]:
    """Return the arms that are behind an arm they contain.

    The verdict decides; if there is none yet, the best values of the search do.

    Args:
        results: the study.
        pairs: the judgement of every pair of arms.
    """
    judged = {(pair.first, pair.second): pair for pair in pairs}
    found: list[UnderTunedArm] = []
    for arm in results.arms:
        for part in arm.view.optimizer.contains:
            for other in results.arms:
                pair = judged.get((arm.name, other.name)) or judged.get((other.name, arm.name))
                if (
                    other is arm
                    or other.view.optimizer.name != part.optimizer
                    or arm.best is None
                    or other.best is None
                ):
                    continue
                # Some optimizers are contained only at some of their own settings.
                if any(
                    other.best.trial.parameters.get(name) != value for name, value in part.requires.items()
                ):
                    continue
                behind = _behind(results, arm, other, other.best, part, pair)
                if behind is not None:
                    found.append(behind)
    return tuple(found)


def _behind(
    results: StudyResults,
    arm: ArmResults,
    other: ArmResults,
    best: ConfirmedConfiguration,
    part: Containment,
    pair: PairJudgement | None,
) -> UnderTunedArm | None:
    outside = _outside(arm, best.trial.parameters, part)
    if pair is not None and pair.n:
        if pair.word != ("worse" if pair.first == arm.name else "better"):
            return None
        behind = None if pair.difference is None else abs(pair.difference)
        return UnderTunedArm(
            arm=arm, other=other, at=part.at, is_certain=True, outside=outside, behind=behind
        )
    own_value = None if arm.best is None else arm.best.trial.value
    if own_value is None or best.trial.value is None:
        return None
    behind = results.sign * (best.trial.value - own_value)
    if behind <= 0:
        return None
    return UnderTunedArm(arm=arm, other=other, at=part.at, is_certain=False, outside=outside, behind=behind)


def _outside(arm: ArmResults, best: Parameters, part: Containment) -> Parameters:
    """Return the settings of the contained arm's best configuration that the arm's own space excludes."""
    space = arm.view.space
    needed = {name: value for name, value in best.items() if name not in part.at} | part.at
    return {
        name: value for name, value in needed.items() if name in space and not space[name].contains(value)
    }
