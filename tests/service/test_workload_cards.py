"""A card with no more than it must have: everything that shows or counts a workload leaves out the rest."""

from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.analysis_cache import AnalysisCache
from service.cli.app import app
from service.dashboard.trial_page import trial_html
from service.report.methods import methods
from service.schemas import StudyPlan
from studies.catalog import Catalog, MetricCard, WorkloadCard
from studies.resolve import resolve
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

CARD = WorkloadCard(
    name="mine",
    metric="recall",
    direction="maximize",
    epochs=3,
    metrics=(MetricCard(name="loss", direction="minimize"),),
)


@pytest.fixture(scope="session")
def catalog(catalog: Catalog) -> Catalog:
    """The small catalogue, and the short card."""
    return catalog.model_copy(update={"workloads": {**catalog.workloads, CARD.name: CARD}})


@pytest.fixture
def body(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a study of the workload with the short card."""
    return body | {"workload": "mine", "training": {"schedule": "cosine", "accumulation_steps": 2}}


def test_only_name_metric_direction_and_epochs_are_needed() -> None:
    required = {name for name, field in WorkloadCard.model_fields.items() if field.is_required()}
    assert required == {"name", "metric", "direction", "epochs"}
    assert (CARD.title, CARD.unit, CARD.batch_size) == ("mine", "none", 32)


def test_the_page_and_the_command_line_show_a_short_card(http: httpx.Client, live: str) -> None:
    page = http.get("/workloads").text
    assert "recall, higher is better" in page[page.index('id="mine"') :]
    for command in (["workloads", "mine"], ["workloads"]):
        found = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "--url", live])
        assert (found.exit_code, "None" in found.output) == (0, False), found.output
        assert "recall, maximize" in found.output
        assert found.output.count("mine") == 1


def test_a_study_of_a_short_card_is_planned_played_and_described(
    store: Store, catalog: Catalog, body: dict[str, Any], play: Any
) -> None:
    spec = parse_spec(body)
    assert StudyPlan.of(spec, resolve(spec, catalog)).estimate_cpu_s is None
    study = store.study(play(body))
    text = " ".join(methods(study, store.arms(study.id), AnalysisCache(store).study(study.id)).paragraphs)
    assert "on the workload mine. A trial's value is the recall on the validation split" in text
    best = store.arms(study.id)[0].best
    assert best is not None
    assert "steps = 2 * (len(loader) // 2)" in best.python
    assert "len(loader)" in trial_html(store, best.trial_id)
