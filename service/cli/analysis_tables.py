"""What analyses look like in a terminal: confirmed arms, pairs, suites and comparisons."""

__all__ = ["arms_of_suite", "compared", "confirmed", "pairs", "studies_of_suite", "suites", "targets", "wins"]

from collections.abc import Iterable, Mapping

from rich.table import Table

from service.cli.output import table
from studies.analysis.multi_study_views import Comparison, SuiteAnalysis
from studies.analysis.views import PairVerdict, StudyAnalysis
from studies.formatting import ABSENT, ago, duration, p_value, score, significant
from studies.views import SuiteSummary

_WORDS: Mapping[str, str] = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}


def _interval(low: float | None, high: float | None) -> str:
    return ABSENT if low is None or high is None else f"[{significant(low)}, {significant(high)}]"


def confirmed(found: StudyAnalysis) -> Table:
    """Return one row a confirmed configuration, the arms in the order of their ranks."""
    test, search = f"test {found.metric}", f"search {found.metric}"
    replicates = any(one.replicate for one in found.confirmed)
    right = ("rank", "runs", test, search, "validation", "shrinkage")
    columns = (
        "arm",
        "rank",
        "configuration",
        "runs",
        test,
        "95 % interval",
        search,
        "validation",
        "shrinkage",
    )
    made = table(None, *columns, right=right)
    ranks = {rank.arm: rank for rank in found.ranks}
    places = {arm: n for n, arm in enumerate(dict.fromkeys((*ranks, *found.arms)))}
    for one in sorted(found.confirmed, key=lambda one: places.get(one.arm, len(places))):
        rank = ranks.get(one.arm) if one.configuration == "best" else None
        place = (
            ABSENT
            if rank is None
            else f"{rank.rank:g}" + (f" ({rank.low} to {rank.high})" if rank.low != rank.high else "")
        )
        which = f"{one.configuration} (trial {one.number}" + (
            f", replicate {one.replicate})" if replicates else ")"
        )
        runs = f"{one.completed}/{one.seeds}" + (f", {one.diverged} diverged" if one.diverged else "")
        made.add_row(
            one.arm,
            place,
            which,
            runs,
            significant(one.test_mean),
            _interval(one.test_low, one.test_high),
            significant(one.search_value),
            significant(one.validation_mean),
            significant(one.shrinkage),
        )
    return made


def pairs(found: Iterable[PairVerdict]) -> Table:
    """Return one row a pair: what the first is, measured against the second."""
    columns = ("arm", "is", "arm ", "by", "95 % interval", "p (Holm)", "effect size", "n")
    made = table(None, *columns, right=("by", "p (Holm)", "effect size", "n"))
    for pair in found:
        interval = _interval(pair.low, pair.high)
        made.add_row(
            pair.first,
            _WORDS[pair.word] if pair.n else "not compared with",
            pair.second,
            significant(pair.difference),
            interval,
            p_value(pair.p_holm),
            significant(pair.effect_size),
            str(pair.n),
        )
    return made


def targets(found: StudyAnalysis) -> Table:
    """Return one row an arm: how soon it reaches the workload's target."""
    made = table(
        None,
        "arm",
        "target",
        "reached",
        "epochs to it",
        "seconds to it",
        right=("target", "reached", "epochs to it", "seconds to it"),
    )
    for arm in found.time_to_target:
        spent = duration(arm.elapsed_s_median) + (
            "" if arm.is_solo or arm.elapsed_s_median is None else " (share of a pack)"
        )
        epochs = ABSENT if arm.epochs_median is None else f"{arm.epochs_median:g}"
        made.add_row(arm.arm, f"{arm.target:g}", f"{arm.reached}/{arm.runs}", epochs, spent)
    return made


def compared(found: Comparison) -> Table:
    """Return one row an arm of the studies that are compared."""
    test = f"test {found.metric}"
    made = table(
        None,
        "arm",
        "study",
        "trials",
        "epochs",
        "runs",
        test,
        "95 % interval",
        "name",
        right=("trials", "epochs", "runs", test),
    )
    for arm in found.arms:
        interval = _interval(arm.test_low, arm.test_high)
        made.add_row(
            arm.label,
            arm.study_id,
            str(arm.trials),
            str(arm.epochs),
            str(arm.runs),
            significant(arm.test_mean),
            interval,
            arm.study_name,
        )
    return made


def suites(found: Iterable[SuiteSummary]) -> Table:
    """Return one row a suite."""
    made = table(None, "name", "studies", "workloads", "newest", right=("studies",))
    for suite in found:
        made.add_row(suite.name, str(suite.studies), ", ".join(suite.workloads), ago(suite.last_at))
    return made


def studies_of_suite(found: SuiteAnalysis) -> Table:
    """Return one row a study of a suite."""
    made = table(None, "study", "state", "workload", "metric", "counted", "name")
    for study in found.studies:
        counted = "yes" if study.is_counted else f"no: {study.why_not}" if study.why_not else "no"
        made.add_row(
            study.study_id,
            study.state.value,
            study.workload,
            f"{study.metric}, {study.direction}",
            counted,
            study.name,
        )
    return made


def arms_of_suite(found: SuiteAnalysis) -> Table:
    """Return one row an arm: its figures over all studies, and its relative performance in each."""
    counted = [study for study in found.studies if study.is_counted]
    # Two studies of a suite may train on one workload.
    heads = [
        study.workload if sum(s.workload == study.workload for s in counted) == 1 else study.study_id
        for study in counted
    ]
    made = table(None, "arm", "IQM", "95 % interval", "AlgoPerf", *heads, right=("IQM", "AlgoPerf", *heads))
    for arm in found.arms:
        of_study = {score.study_id: score.relative for score in arm.scores}
        interval = (
            ABSENT
            if arm.iqm_low is None or arm.iqm_high is None
            else f"[{arm.iqm_low:.3f}, {arm.iqm_high:.3f}]"
        )
        made.add_row(
            arm.arm,
            score(arm.iqm),
            interval,
            score(arm.algoperf),
            *(score(of_study.get(study.study_id)) for study in counted),
        )
    return made


def wins(found: SuiteAnalysis) -> Table:
    """Return one row a pair of arms: how often a run of the first beats one of the second."""
    made = table(None, "arm", "beats", "with chance", right=("with chance",))
    for pair in found.wins:
        made.add_row(pair.first, pair.second, score(pair.chance))
    return made
