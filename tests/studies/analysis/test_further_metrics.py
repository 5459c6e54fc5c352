"""Metrics beside the objective: their values on fresh seeds, and verdicts by those that are asked for."""

from typing import Any

from catalogs import catalog
from records import Arm, around, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.views import StudyAnalysis
from studies.catalog import Catalog, MetricCard
from studies.views import StudyRecord, TrialView

__all__: list[str] = []

METRICS = (
    MetricCard(name="error", unit="none", direction="minimize"),
    MetricCard(name="spare", unit="none", direction="maximize"),
)


def known() -> Catalog:
    """Return the catalogue with further metrics on every workload."""
    cards = catalog()
    with_metrics = {
        name: card.model_copy(update={"metrics": METRICS}) for name, card in cards.workloads.items()
    }
    return cards.model_copy(update={"workloads": with_metrics})


def study(**objective: Any) -> StudyRecord:
    """Return a study of two arms in which the arm with the higher accuracy has the higher error."""
    arms = {
        name: Arm(search=falling(value), best=around(value, turn=turn), defaults=around(value - 0.05))
        for turn, (name, value) in enumerate((("sgdp", 0.95), ("stepper", 0.8)))
    }
    made = record(arms, known=known(), objective=objective)

    def measured(trial: TrialView) -> TrialView:
        if trial.test_value is None:
            return trial
        return trial.model_copy(update={"test_metrics": {"error": 2 * trial.test_value, "spare": None}})

    return made.model_copy(
        update={
            "trials": tuple(map(measured, made.trials)),
            "confirmations": tuple(map(measured, made.confirmations)),
        }
    )


def found(**objective: Any) -> StudyAnalysis:
    return analyse(study(**objective))


def test_every_metric_has_its_mean_and_interval_for_each_confirmed_configuration() -> None:
    analysis = found()
    error, spare = analysis.metrics
    assert [(each.name, each.is_compared, each.pairs) for each in analysis.metrics] == [
        ("error", False, ()),
        ("spare", False, ()),
    ]
    for own, other in zip(analysis.confirmed, error.confirmed, strict=True):
        assert (own.arm, own.configuration, own.completed) == (
            other.arm,
            other.configuration,
            other.completed,
        )
        assert own.test_mean is not None
        assert other.mean is not None
        assert abs(other.mean - 2 * own.test_mean) < 1e-12
        assert other.low is not None
        assert other.low < other.mean
    assert {(each.completed, each.mean) for each in spare.confirmed} == {(0, None)}


def test_the_arms_are_compared_by_the_metrics_that_the_study_asks_for() -> None:
    analysis = found(compare=["spare", "error"])
    error, spare = analysis.metrics
    (objective,), (by_error,), (by_spare,) = analysis.pairs, error.pairs, spare.pairs
    assert (objective.first, objective.second, objective.word) == ("sgdp", "stepper", "better")
    # Twice the accuracy, and lower is better.
    assert (by_error.word, by_error.n) == ("worse", 5)
    assert objective.difference is not None
    assert by_error.difference is not None
    assert abs(by_error.difference - 2 * objective.difference) < 1e-12
    assert (by_spare.word, by_spare.n, by_spare.p) == ("undecided", 0, None)
    assert by_error.p is not None
    assert by_error.p_holm == 2 * by_error.p, "both comparisons count, also the one that could not be made"
    assert "Stepper is better than SGDP" in by_error.reason


def test_the_verdict_by_the_objective_does_not_depend_on_the_other_metrics() -> None:
    alone, compared = found(), found(compare=["error"])
    assert (alone.pairs, alone.finding, alone.ranks) == (compared.pairs, compared.finding, compared.ranks)
