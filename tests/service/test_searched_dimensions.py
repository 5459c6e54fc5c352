"""What a study searches beside its optimizers: in pages, reports, tables, checks, comparisons and clones."""

import io
import math
from dataclasses import replace
from typing import Any

import pytest
from catalogs import catalog as cards
from rich.console import Console
from trained_studies import Trained

from service.analysis_cache import AnalysisCache
from service.chosen_arms import ChosenArms
from service.cli import tables
from service.cloning import clone_spec
from service.dashboard.study_page import StudyPageQuery, study_html
from service.report.latex import latex
from service.report.methods import methods
from service.report.study_report import report_of
from studies.actors import OPERATOR
from studies.catalog import Bounds, Hyperparameter, MetricCard
from studies.space import Choices, Range
from studies.store import Store
from studies.trials import Report

__all__: list[str] = []
DROPOUT = Hyperparameter(
    name="dropout",
    description="Share of units set to 0.",
    unit="fraction",
    default=0.0,
    search=Range(low=0.0, high=0.5),
    source="made up",
    bounds=Bounds(low=0, high=1, high_open=True),
)
SPACE: dict[str, Any] = {
    "training.batch_size": {"choices": [16, 32, 64, 128]},
    "workload.dropout": "tune",
    "groups.head.lr": {"low": 1e-4, "high": 1e-2, "log": True},
}
OWN = {"lr": {"low": 1e-3, "high": 1e-2, "log": True}, "training.batch_size": 64}


class Searched(Trained):
    """A study whose values depend on the learning rate of a group, and best at its upper edge."""

    def _started(self, new: Any) -> Any:
        started = super()._started(new)
        rate = float(new.parameters.get("groups.head.lr", 1e-3))
        return replace(started, value=0.9 + 0.02 * math.log10(rate / 1e-2) + 0.001 * (new.seed % 3))

    def _report(self, one: Any) -> Report:
        report = super()._report(one)
        if report.test_value is None:
            return report
        return replace(report, test_metrics={"clean": report.test_value + 0.05})


@pytest.fixture
def searched(store: Store) -> Trained:
    """A study of two arms that search beside their optimizers; the second has a batch size of its own."""
    catalog = cards()
    changed = {
        "hyperparameters": (DROPOUT,),
        "groups": ("head",),
        "metrics": (MetricCard(name="clean", unit="fraction", direction="maximize"),),
    }
    digits = catalog.workloads["digits-mlp"].model_copy(update=changed)
    store.announce(catalog.model_copy(update={"workloads": {"digits-mlp": digits}}), dispatcher="here")
    study = Searched(
        store,
        arms=["adamw", {"optimizer": "adamw", "name": "own", "space": OWN}],
        budget={"trials_per_arm": 24, "epochs": 1},
        space=SPACE,
        objective={"compare": ["clean"]},
        confirmation={"seeds": 3},
    )
    return study.train().confirm().close()


def test_what_is_searched_is_named_wherever_the_study_is_described(store: Store, searched: Trained) -> None:
    analyses, study, arms = AnalysisCache(store), store.study(searched.id), store.arms(searched.id)
    analysis = analyses.study(study.id)
    shared = (
        "training.batch_size in {16, 32, 64, 128}; workload.dropout over the range on its card; "
        "groups.head.lr from 0.0001 to 0.01 (log scale)"
    )
    html = study_html(store, analyses, study.id, StudyPageQuery(), reader=OPERATOR).value
    assert f"Searched in every arm</a></dt><dd>{shared}</dd>" in html
    assert "<dt>Only in own</dt><dd>training.batch_size = 64</dd>" in html
    assert "Compared too</a></dt><dd>clean</dd>" in html
    text = " ".join(methods(study, arms, analysis).paragraphs).replace("\N{NO-BREAK SPACE}", " ")
    assert f"Every arm searched for itself, from the same ranges: {shared}" in text
    assert "Only own had training.batch_size = 64." in text
    assert "arms differ only in the optimizer and in what own has for itself" in text
    assert "a larger batch took fewer steps" in text
    assert "compared in the same way by clean" in text
    report = latex(report_of(study, arms, analysis))
    assert r"Test (\%) & clean (\%) & $n$" in report
    assert r"\begin{tabular}{rlrrrrrrll}" in report
    assert "by test clean, by which nothing was searched" in report
    console = Console(width=200, file=(written := io.StringIO()))
    console.print(tables.study(study, arms, page="here"))
    shown = written.getvalue()
    assert "only own" in shown
    assert "validation accuracy at the last epoch; arms are compared by clean too" in shown


def test_sensitivities_and_checks_see_what_is_searched(store: Store, searched: Trained) -> None:
    analysis = AnalysisCache(store).study(searched.id)
    for sensitivity in analysis.sensitivity:
        assert max(sensitivity.importances, key=sensitivity.importances.__getitem__) == "groups.head.lr"
        assert "workload.dropout" in sensitivity.importances
    [check] = [
        c for c in analysis.checks if c.kind == "edge-of-space" and c.arm == "own" and "head" in c.sentence
    ]
    assert "the upper edge of its range" in check.sentence
    assert check.spec is not None
    # The study searches it for every arm.
    assert check.spec["space"]["groups.head.lr"]["high"] == 0.1
    assert check.spec["arms"][1]["space"]["training.batch_size"] == {"kind": "fixed", "value": 64}


def test_a_comparison_names_what_two_studies_search_and_compare_by(store: Store, searched: Trained) -> None:
    other = Trained(store, arms=["adamw"], budget={"trials_per_arm": 2, "epochs": 1}).train().close()
    found = " ".join(AnalysisCache(store).comparison(ChosenArms.of([searched.id, other.id])).cautions)
    assert "differ in what every arm searches beside its optimizer: training.batch_size in" in found
    assert "differ in what an arm has for itself: own: training.batch_size = 64 in" in found
    assert "differ in the metrics compared beside that: clean in" in found


def test_a_clone_replaces_a_dimension_of_the_space_as_a_whole(store: Store, searched: Trained) -> None:
    spec = store.study(searched.id).spec
    fixed = clone_spec(spec, {"training": {"batch_size": 32}})
    assert fixed.training.batch_size == 32
    assert "training.batch_size" not in fixed.space
    choices = {"choices": [0.001, 0.01]}
    whole = clone_spec(spec, {"space": {"groups.head.lr": choices, "workload.dropout": None}})
    assert whole.space["groups.head.lr"] == Choices(choices=(0.001, 0.01))
    assert "workload.dropout" not in whole.space
    part = clone_spec(spec, {"space": {"groups.head.lr": {"high": 0.1}}}).space["groups.head.lr"]
    assert part == Range(low=1e-4, high=0.1, log=True)
