"""What the page shows of paired trials and of the budget verdict."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from catalogs import catalog
from trained_studies import Trained

from service.budget_differences import budgets_to_show, differences_to_leader
from service.dashboard.figures import FigureData, budget_charts
from service.dashboard.tables import tables_of
from studies.analysis.analyse import analyse
from studies.analysis.views import BudgetVerdict
from studies.formatting import change, change_interval, metric, p_value
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

_ARMS = ["adamp", "adamw", "stepper"]


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.fixture
def page(http: httpx.Client, known: Store) -> Callable[[str], str]:
    """The HTML of a page."""
    assert known is not None

    def read(path: str) -> str:
        answer = http.get(path, headers={"accept": "text/html"})
        assert answer.status_code == 200, answer.text
        return answer.text

    return read


def paired(store: Store, *, pairs: int = 16, **fields: Any) -> Trained:
    given = {"arms": _ARMS, "budget": {"trials_per_arm": 20, "epochs": 2}, "confirmation": {"seeds": 3}}
    return Trained(store, width=8, search={"paired": pairs}, **given | fields)


def data_of(store: Store, study_id: str) -> FigureData:
    record = store.study_record(study_id)
    return FigureData(
        study=record.study, arms=record.arms, trials=record.trials, analysis=analyse(record), best_runs={}
    )


def verdict_of(data: FigureData) -> BudgetVerdict:
    assert data.analysis.by_budget is not None
    return data.analysis.by_budget


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).replace("\N{NO-BREAK SPACE}", " ")


def test_both_sentences_of_the_finding_come_before_the_evidence(
    page: Callable[[str], str], known: Store
) -> None:
    study_id = paired(known).train().confirm().close().id
    html = page(f"/studies/{study_id}")
    sentences = analyse(known.study_record(study_id)).finding.sentences
    assert len(sentences) >= 2
    shown = re.findall(r'<p class="finding">(.*?)</p>', html)
    assert [plain(each) for each in shown] == [each.replace("\N{NO-BREAK SPACE}", " ") for each in sentences]
    places = [html.index(f'id="{name}"') for name in ("verdict", "budget", "ship", "checks", "confirmed")]
    assert places == sorted(places)
    assert html.count('id="budget"') == 1
    assert 'id="pairs"' not in html


def test_each_pair_has_its_word_difference_interval_p_and_n(page: Callable[[str], str], known: Store) -> None:
    study_id = paired(known).train().confirm().close().id
    table = page(f"/studies/{study_id}").split('id="budget-pairs"')[1].split("</table>")[0]
    pairs = verdict_of(data_of(known, study_id)).pairs
    assert len(pairs) == 3
    for pair in pairs:
        cells = (
            f">{pair.word}</a>",
            change(pair.difference, "fraction"),
            change_interval(pair.low, pair.high, "fraction"),
            p_value(pair.p_corrected),
            f">{pair.n}<",
        )
        assert all(cell in table for cell in cells)


def test_the_chart_has_one_curve_for_each_arm_and_its_difference_to_the_leader_beneath(known: Store) -> None:
    data = data_of(known, paired(known).train().close().id)
    verdict = verdict_of(data)
    [chart] = budget_charts(data, "trials")
    figure = json.loads(chart.json)
    lines = [t for t in figure["data"] if t["mode"] == "lines+markers"]
    above = {t["meta"]["arm"]: t for t in lines if t.get("yaxis") != "y2"}
    beneath = {t["meta"]["arm"]: t for t in lines if t.get("yaxis") == "y2"}
    assert list(above) == _ARMS
    assert set(beneath) == set(_ARMS)
    leader = verdict.arms[0].arm
    assert set(beneath[leader]["y"]) == {0}
    for arm in _ARMS:
        assert above[arm]["x"] == beneath[arm]["x"]
        gaps = [100 * (mine - best) for mine, best in zip(above[arm]["y"], above[leader]["y"], strict=True)]
        assert beneath[arm]["y"] == pytest.approx(gaps, abs=1e-9)
    assert figure["layout"]["shapes"][0]["x0"] == verdict.primary
    assert figure["layout"]["xaxis"]["anchor"] == "y2"
    [chart] = budget_charts(data, "seconds")
    assert "yaxis2" not in json.loads(chart.json)["layout"]


def test_the_numbers_of_the_chart_are_in_its_table(known: Store) -> None:
    data = data_of(known, paired(known).train().close().id)
    [chart] = budget_charts(data, "trials")
    verdict = verdict_of(data)
    differences = differences_to_leader(verdict)
    labels = {arm.name: arm.label for arm in data.arms}
    rows = {(row[0], row[1]): row for row in chart.rows}
    for curve in data.analysis.curves:
        for point in curve.points:
            row = rows[labels[curve.arm], str(point.trials)]
            assert row[4] == metric(point.value, "fraction")
    for arm, points in differences.items():
        for point in points:
            row = rows[labels[arm], str(point.trials)]
            assert row[5:] == (
                change(point.difference, "fraction"),
                change_interval(point.low, point.high, "fraction"),
            )


def test_arms_are_listed_best_first_and_decided_pairs_first(known: Store) -> None:
    data = data_of(known, paired(known).train().close().id)
    tables = tables_of(data.analysis, data.arms)
    values = [each.value for _, each in tables.at_budget]
    assert values == sorted(values, key=lambda value: -(value or 0.0))
    words = [row.verdict.word == "undecided" for row in tables.by_budget]
    assert words == sorted(words)


def test_in_progress_the_page_says_how_many_pairs_have_ended_and_gives_no_word(
    page: Callable[[str], str], known: Store
) -> None:
    run = paired(known).train(6)
    verdict = verdict_of(data_of(known, run.id))
    html = page(f"/studies/{run.id}")
    section = html[html.index('<section id="budget"') : html.index('<section id="ship"')]
    assert 0 < verdict.ended < verdict.planned
    assert f"{verdict.ended} of {verdict.planned} pairs of trials have ended in every arm" in plain(section)
    assert "word-" not in section
    assert verdict.why_none is not None
    assert plain(html).count(verdict.why_none) == 1


def test_a_study_with_too_few_pairs_says_why_it_has_no_verdict_by_budget(
    page: Callable[[str], str], known: Store
) -> None:
    study_id = paired(known, pairs=4, budget={"trials_per_arm": 6, "epochs": 2}).train().confirm().close().id
    verdict = verdict_of(data_of(known, study_id))
    html = page(f"/studies/{study_id}")
    assert verdict.why_none is not None
    assert verdict.why_none.replace("`", "") in plain(html).replace(" .", ".")
    assert 'id="ship"' not in html
    assert 'id="pairs"' in html


def test_the_pair_of_a_trial_is_shown_in_the_table_and_on_its_page(
    page: Callable[[str], str], known: Store
) -> None:
    study_id = paired(known).train().close().id
    table = page(f"/studies/{study_id}?order=number").split('id="trials"')[1]
    assert len(re.findall(r">pair 0<", table)) == 3
    shown = plain(page(f"/trials/{study_id}.adamw.3"))
    assert "Pair 2 of 0 to 15" in shown
    assert "part of pair 2" in shown
    html = page(f"/trials/{study_id}.adamw.3")
    assert re.findall(r'<a href="/trials/([^"]+)">[^<]+, trial 3</a>', html) == [
        f"{study_id}.adamp.3",
        f"{study_id}.stepper.3",
    ]
    assert "Pair" not in plain(page(f"/trials/{study_id}.adamw.0")).replace("Pairs", "")


def test_a_study_that_ended_before_its_first_look_shows_no_pairs(
    page: Callable[[str], str], known: Store
) -> None:
    search = {"paired": 16, "until": {"max_pairs": 40}}
    budget = {"trials_per_arm": 20, "epochs": 2}
    run = Trained(known, width=8, arms=_ARMS, search=search, budget=budget).train(8)
    known.move(run.id, StudyMove.STOP)
    html = page(f"/studies/{run.close().id}")
    assert "ended before its first look, at 16 pairs of trials" in plain(html)
    assert 'id="budget-pairs"' not in html
    trial = next(t for t in known.every_trial(run.id) if t.pair_index == 1)
    assert "Pair 1 of 0 to 39" in plain(page(f"/trials/{trial.id}"))


def test_the_shown_budgets_are_the_smallest_the_primary_and_the_largest() -> None:
    assert budgets_to_show(4, range(1, 9)) == [2, 4, 8]
    assert budgets_to_show(2, range(1, 3)) == [2]
    assert budgets_to_show(1, range(1, 5)) == [1, 2, 4]
    assert budgets_to_show(6, [3, 6]) == [3, 6]


def test_arms_of_studies_with_the_same_design_are_compared_by_budget(
    page: Callable[[str], str], known: Store
) -> None:
    ids = [
        paired(known, arms=["adamp", other], name=f"with {other}").train().confirm().close().id
        for other in ("adamw", "stepper")
    ]
    html = page(f"/compare?study={ids[0]}&study={ids[1]}")
    section = html[html.index('id="budget-title"') : html.index('id="pairs-title"')]
    # Four arms, of which two are AdamP in either study.
    assert len(re.findall(r'class="word word-', section)) == 6
    other = paired(known, arms=["stepper"], pairs=12).train().confirm().close().id
    assert (
        'class="word word-' not in page(f"/compare?study={ids[0]}&study={other}").split('id="pairs-title"')[0]
    )


def test_a_suite_of_paired_studies_shows_the_mean_after_its_tuning_budget(
    page: Callable[[str], str], known: Store
) -> None:
    for workload in ("digits-mlp", "char-lm"):
        paired(known, workload=workload, suite="small-nets").train().confirm().close()
    table = plain(page("/suites/small-nets").split("Scores of each arm")[1].split("</table>")[0])
    assert "After 2 trials of tuning" in table
