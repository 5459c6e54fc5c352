"""Arms that lose to one that they contain.

An optimizer that can imitate another one and is behind it was tuned less well.
"""

__all__ = ["UnderTunedArm", "losses"]

from collections.abc import Sequence
from dataclasses import dataclass

from studies.analysis.study_results import ArmResults, ConfirmedConfiguration, StudyResults
from studies.analysis.wording import settings
from studies.catalog import Containment
from studies.space import Parameters
from studies.statistics.verdict import PairJudgement


@dataclass(frozen=True, kw_only=True)
class UnderTunedArm:
    """An arm that is behind one that it contains.

    Attributes:
        arm: the arm that is behind.
        other: the arm that it contains.
        at: settings at which both are the same algorithm.
        is_certain: whether the verdict says that it is worse; else it is only behind in the search.
        outside: the part of the contained arm's best configuration, or of `at`, that its space leaves out;
            with none it could have found it.
        behind: by how much, in the metric's unit, positive: of confirmed means where certain, else of the
            search's best.
    """

    arm: ArmResults
    other: ArmResults
    at: Parameters
    is_certain: bool
    outside: Parameters
    behind: float | None

    @property
    def is_under_tuned(self) -> bool:
        """Whether what the arm lost to lay in its own space, beyond doubt better: its search missed it."""
        return self.is_certain and not self.outside

    @property
    def clause(self) -> str:
        """What the verdict has to add, without a full stop."""
        equal = f"{self.arm.label} equals {self.other.label} at {settings(self.at)}"
        if self.is_under_tuned:
            return f"{equal}, which its space holds: it is under-tuned, not worse"
        space = f"the space of {self.arm.label}"
        out = (
            f"which {space} leaves out"
            if self.outside == self.at
            else f"and {space} leaves out {settings(self.outside)}"
        )
        return f"{equal}, {out}: this is about {self.arm.label} as it was searched"


def losses(reading: StudyResults, pairs: Sequence[PairJudgement]) -> tuple[UnderTunedArm, ...]:
    """Return the arms that are behind one they contain.

    That is by verdict, or by the search's best value where no verdict is in.

    Args:
        reading: the study.
        pairs: every pair of arms, as judged.
    """
    judged = {(pair.first, pair.second): pair for pair in pairs}
    found: list[UnderTunedArm] = []
    for arm in reading.arms:
        for part in arm.view.optimizer.contains:
            for other in reading.arms:
                pair = judged.get((arm.name, other.name)) or judged.get((other.name, arm.name))
                if (
                    other is arm
                    or other.view.optimizer.name != part.optimizer
                    or arm.best is None
                    or other.best is None
                ):
                    continue
                # Some optimizers are contained at some of their own settings only.
                if any(
                    other.best.trial.parameters.get(name) != value for name, value in part.requires.items()
                ):
                    continue
                loss = _loss(reading, arm, other, other.best, part, pair)
                found += [] if loss is None else [loss]
    return tuple(found)


def _loss(
    reading: StudyResults,
    arm: ArmResults,
    other: ArmResults,
    best: ConfirmedConfiguration,
    part: Containment,
    pair: PairJudgement | None,
) -> UnderTunedArm | None:
    outside = _outside(arm, best.trial.parameters, part)
    if pair is not None and pair.n:
        is_worse = pair.word == ("worse" if pair.first == arm.name else "better")
        behind = None if pair.difference is None else abs(pair.difference)
        return (
            UnderTunedArm(arm=arm, other=other, at=part.at, is_certain=True, outside=outside, behind=behind)
            if is_worse
            else None
        )
    mine = None if arm.best is None else arm.best.trial.value
    if mine is None or best.trial.value is None or (behind := reading.sign * (best.trial.value - mine)) <= 0:
        return None
    return UnderTunedArm(arm=arm, other=other, at=part.at, is_certain=False, outside=outside, behind=behind)


def _outside(arm: ArmResults, best: Parameters, part: Containment) -> Parameters:
    """Return what the arm's space lacks to repeat the contained arm's best configuration."""
    space = arm.view.space
    needed = {name: value for name, value in best.items() if name not in part.at} | part.at
    return {
        name: value for name, value in needed.items() if name in space and not space[name].contains(value)
    }
