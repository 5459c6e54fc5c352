"""The metrics beside a study's objective: of each confirmed configuration, and of pairs of arms if asked."""

__all__ = ["further_metrics"]

import math

from studies.analysis.by_budget import metrics_by_budget
from studies.analysis.paired_trials import PairedTrials
from studies.analysis.study_results import ArmResults, ConfirmedConfiguration, StudyResults
from studies.analysis.verdicts import (
    arm_scores,
    count_divergence,
    name_in_verdict,
    pair_verdict,
    question,
)
from studies.analysis.views import FurtherMetric, MetricOfConfiguration, PairVerdict
from studies.analysis.wording import verdict_sentence
from studies.catalog import MetricCard
from studies.direction import sign
from studies.statistics.paired import mean_interval
from studies.statistics.verdict import Judgement, judge_together
from studies.trial_values import value_on_test


def further_metrics(results: StudyResults, trials: PairedTrials | None) -> tuple[FurtherMetric, ...]:
    """Return the workload's metrics beside the objective, in the card's order.

    Args:
        results: the study.
        trials: its paired trials.
    """
    asked = [metric for metric in results.card.metrics if metric.name in results.study.spec.objective.compare]
    judged = judge_together(
        [(arm_scores(results, metric=metric.name), metric.direction) for metric in asked],
        about=question(results),
    )
    by_budget = {} if trials is None else metrics_by_budget(trials, [metric.name for metric in asked])
    judgements = {metric.name: judgement for metric, judgement in zip(asked, judged, strict=True)}
    return tuple(
        FurtherMetric(
            name=metric.name,
            unit=metric.unit,
            direction=metric.direction,
            confirmed=_confirmed(results, metric.name),
            is_compared=metric.name in judgements,
            pairs=_pairs(results, metric, judgements[metric.name]) if metric.name in judgements else (),
            by_budget=by_budget.get(metric.name, ()),
        )
        for metric in results.card.metrics
    )


def _pairs(results: StudyResults, metric: MetricCard, judgement: Judgement) -> tuple[PairVerdict, ...]:
    found: list[PairVerdict] = []
    for pair in judgement.pairs:
        first, second = results.arm(pair.first), results.arm(pair.second)
        sentence = verdict_sentence(
            pair,
            first=name_in_verdict(first.label, question(results)),
            second=name_in_verdict(second.label, question(results)),
            sign=sign(metric.direction),
            unit=metric.unit,
            divergence=count_divergence(results, first, second),
            is_closed=results.is_closed,
        )
        found.append(pair_verdict(pair, sentence))
    return tuple(found)


def _confirmed(results: StudyResults, metric: str) -> tuple[MetricOfConfiguration, ...]:
    found: list[MetricOfConfiguration] = []
    for arm in results.arms:
        found += [
            _of_configuration(arm, each, metric, replicate)
            for replicate, each in enumerate(arm.bests)
            if each is not None and each.runs
        ]
        if arm.defaults is not None and arm.defaults.runs:
            found.append(_of_configuration(arm, arm.defaults, metric, None))
    return tuple(found)


def _of_configuration(
    arm: ArmResults, configuration: ConfirmedConfiguration, metric: str, replicate: int | None
) -> MetricOfConfiguration:
    values = [value for run in configuration.runs if (value := value_on_test(run, metric)) is not None]
    test = mean_interval(values)
    mean, low, high = (value if math.isfinite(value) else None for value in (test.mean, test.low, test.high))
    return MetricOfConfiguration(
        arm=arm.name,
        configuration="defaults" if replicate is None else "best",
        replicate=replicate or 0,
        completed=len(values),
        mean=mean,
        low=low,
        high=high,
    )
