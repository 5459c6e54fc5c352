"""A card with no more than it must have: everything that shows or counts a workload leaves out the rest."""

from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from service.analysis_cache import AnalysisCache
from service.cli.app import app
from service.dashboard.trial_page import trial_html
from service.report.methods import methods
from service.schemas import StudyPlan
from studies.catalog import Catalog, MetricCard, PublishedResult, WorkloadCard
from studies.errors import SpecInvalid
from studies.formatting import metric
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
PUBLISHED = CARD.model_copy(
    update={
        "name": "published",
        "unit": "fraction",
        "published": (
            PublishedResult(optimizer="adamp", value=0.7257, source="Table 1"),
            PublishedResult(optimizer="sgdp", value=1.5, metric="loss", setting="no decay", source="Table 2"),
        ),
    }
)
MISSING = CARD.model_copy(update={"name": "elsewhere", "missing": "expected train in /data; put it there"})


@pytest.fixture(scope="session")
def catalog(catalog: Catalog) -> Catalog:
    """The small catalogue, the short card, one with published results, and one whose data are missing."""
    more = {card.name: card for card in (CARD, PUBLISHED, MISSING)}
    return catalog.model_copy(update={"workloads": {**catalog.workloads, **more}})


@pytest.fixture
def body(body: dict[str, Any]) -> dict[str, Any]:
    """The body of a study of the workload with the short card."""
    return body | {"workload": "mine", "training": {"schedule": "cosine", "accumulation_steps": 2}}


def test_only_name_metric_direction_and_epochs_are_needed() -> None:
    required = {name for name, field in WorkloadCard.model_fields.items() if field.is_required()}
    assert required == {"name", "metric", "direction", "epochs"}
    assert (CARD.title, CARD.unit, CARD.batch_size) == ("mine", "none", 32)


def test_the_page_and_the_command_line_show_a_short_card(http: httpx.Client, live: str) -> None:
    listed = http.get("/workloads").text
    assert "recall, higher is better" in listed[listed.index('id="mine"') :]
    assert "recall, higher is better" in http.get("/workloads/mine").text
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


def test_a_study_whose_workload_lacks_something_is_refused(catalog: Catalog, body: dict[str, Any]) -> None:
    with pytest.raises(SpecInvalid) as refused:
        resolve(parse_spec(body | {"workload": "elsewhere"}), catalog)
    assert [(problem.pointer, problem.message) for problem in refused.value.problems] == [
        ("/workload", "elsewhere cannot be trained here: expected train in /data; put it there")
    ]


def test_what_a_workload_lacks_is_shown(http: httpx.Client, live: str) -> None:
    assert http.get("/v1/workloads/elsewhere").json()["missing"] == MISSING.missing
    for path in ("/workloads", "/workloads/elsewhere"):
        assert MISSING.missing in http.get(path).text
    run = CliRunner(env={"COLUMNS": "200"}).invoke
    states = dict(line.split()[:2] for line in run(app, ["workloads", "--url", live]).output.splitlines()[1:])
    assert (states["mine"], states["elsewhere"]) == ("ready", "missing")
    assert MISSING.missing in run(app, ["workloads", "elsewhere", "--url", live]).output


def test_published_results_are_shown_beside_a_studys_own(
    http: httpx.Client, live: str, store: Store, body: dict[str, Any], play: Any
) -> None:
    study_id = play(body | {"workload": "published"})
    best = store.arms(study_id)[0].best
    assert best is not None
    page = http.get(f"/studies/{study_id}").text
    table = page[page.index("published results") :]
    table = table[: table.index("</table>")]
    assert ("72.57" in table, metric(best.test_value, "fraction") in table) == (True, True)
    [shown, _] = http.get(f"/v1/studies/{study_id}").json()["workload_card"]["published"]
    assert (shown["optimizer"], shown["value"], shown["metric"]) == ("adamp", 0.7257, None)
    assert "72.57" in CliRunner().invoke(app, ["workloads", "published", "--url", live]).output


def test_published_results_keep_their_metric() -> None:
    by_loss = PUBLISHED.by_metric("loss")
    assert [result.metric for result in by_loss.published] == ["recall", None]
    assert by_loss.by_metric("recall").published == PUBLISHED.published
    wrong = PublishedResult(optimizer="sgd", value=1.0, metric="speed", source="Table 3")
    with pytest.raises(ValidationError, match="speed"):
        WorkloadCard.model_validate({**CARD.model_dump(), "published": [wrong.model_dump()]})
