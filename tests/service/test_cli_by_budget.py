"""The budget verdict in `tangent verdict`, in reports and over REST."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from trained_studies import Trained
from typer.testing import Result

from studies.analysis.views import StudyAnalysis
from studies.formatting import change, change_interval, metric, number, p_value
from studies.statistics.until_decided import look_levels
from studies.store import Store

__all__: list[str] = []

Run = Callable[..., Result]


@pytest.fixture
def judged(store: Store) -> str:
    """A completed study of three arms with 16 pairs each."""
    return _paired(store).train().confirm().close().id


def _paired(store: Store, **fields: Any) -> Trained:
    given: dict[str, Any] = {
        "arms": ["adamp", "adamw", {"optimizer": "adamw", "name": "slow", "space": {"lr": 1e-5}}],
        "budget": {"trials_per_arm": 18, "epochs": 2},
        "search": {"paired": 16},
        "confirmation": {"seeds": 3},
    }
    return Trained(store, width=8, **given | fields)


def analysis_of(live: str, study: str) -> StudyAnalysis:
    return StudyAnalysis.model_validate_json(httpx.get(f"{live}/v1/studies/{study}/analysis").text)


def analysis_of_study(http: httpx.Client, study: str) -> StudyAnalysis:
    return StudyAnalysis.model_validate_json(http.get(f"/v1/studies/{study}/analysis").text)


def test_a_verdict_prints_words_at_the_primary_budget_and_the_band_at_two_others(
    run: Run, judged: str, live: str
) -> None:
    shown = run("verdict", judged).stdout
    analysis = analysis_of(live, judged)
    verdict = analysis.by_budget
    assert verdict is not None
    assert shown.splitlines()[: len(analysis.finding.sentences)] == [
        sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in analysis.finding.sentences
    ]
    points = {
        (each.first, each.second, point.trials): point
        for each in verdict.differences
        for point in each.points
    }
    words = {"better": "better than", "worse": "worse than", "undecided": "undecided against"}
    for pair in verdict.pairs:
        expected = [
            pair.first,
            words[pair.word],
            pair.second,
            change(pair.difference, "fraction"),
            change_interval(pair.low, pair.high, "fraction"),
            p_value(pair.p_corrected),
            str(pair.n),
        ]
        point = points[pair.first, pair.second, 4]
        expected.append(
            f"{change(point.difference, 'fraction')} ({change_interval(point.low, point.high, 'fraction')})"
        )
        cells = [re.escape(cell.replace("\N{NO-BREAK SPACE}", " ")) for cell in expected]
        assert re.search(" +".join(cells), shown), expected
    for each in verdict.arms:
        value = metric(each.value, "fraction").replace("\N{NO-BREAK SPACE}", " ")
        assert re.search(rf"{each.arm} +{re.escape(value)}", shown)


def test_an_arm_far_behind_is_worse_and_not_undecided(judged: str, live: str) -> None:
    verdict = analysis_of(live, judged).by_budget
    assert verdict is not None
    words = {(pair.first, pair.second): pair.word for pair in verdict.pairs}
    assert words["adamp", "slow"] == words["adamw", "slow"] == "better"


def test_a_verdict_in_progress_says_how_many_pairs_have_ended(run: Run, store: Store, live: str) -> None:
    study = _paired(store).train(6).id
    verdict = analysis_of(live, study).by_budget
    assert verdict is not None
    shown = run("verdict", study).stdout
    assert f"{verdict.planned} pairs" in shown
    assert f"so far {verdict.ended} " in shown
    assert not re.search(r"^adam\w+ +(better than|worse than|undecided)", shown, flags=re.MULTILINE)


def test_show_and_trials_tell_of_the_pairs(run: Run, judged: str) -> None:
    assert re.search(
        r"search +tpe, .*16 of them paired across arms, verdict at k = 2", run("show", judged).stdout
    )
    listed = run("trials", judged, "--arm", "adamw", "--sort", "number").stdout
    assert re.search(r"^trial +state +pair", listed, flags=re.MULTILINE)
    assert re.search(rf"^{judged}\.adamw\.1 +completed +0 ", listed, flags=re.MULTILINE)


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_report_has_the_verdict_by_budget_before_the_configurations(
    http: httpx.Client, judged: str, form: str
) -> None:
    text = http.get(f"/v1/studies/{judged}/report?format={form}").text
    analysis = analysis_of_study(http, judged)
    verdict = analysis.by_budget
    assert verdict is not None
    titles = ("Which optimizer is better?", "Which configuration should I ship?", "Methods")
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    section = text[places[0] : places[1]]
    for pair in verdict.pairs:
        assert change(pair.difference, "fraction") in section
        assert p_value(pair.p_corrected) in section.replace("&lt;", "<").replace("\\<", "<")
    for method in ("U-statistic", "jackknife", "multiplier bootstrap", "paired across arms"):
        assert method in text
    for source in ("Hoeffding", "Efron and C. Stein", "Chernozhukov", "Romano"):
        assert source in text


def test_the_figure_of_a_report_has_the_arms_that_are_near_and_their_differences(
    http: httpx.Client, judged: str
) -> None:
    html = http.get(f"/v1/studies/{judged}/report?format=html").text
    svg = html[html.index('aria-labelledby="budget-title') : html.index("</svg>", html.index("budget-title"))]
    # Two curves and two lines of differences (the leader's at 0), and three of the key.
    assert len(re.findall(r'class="line arm-\d"', svg)) == 7
    assert len(re.findall(r'class="band arm-\d"', svg)) == 1
    assert "slow, far behind" in svg
    assert svg.count('class="primary"') == 1


def test_latex_has_a_table_by_budget_with_who_is_better_than_whom(http: httpx.Client, judged: str) -> None:
    text = http.get(f"/v1/studies/{judged}/report?format=latex").text
    tables = text.split(r"\begin{table}")
    assert len(tables) == 3
    assert f"\\label{{tab:tangent-{judged}-by-budget}}" in tables[2]
    assert "& $k = 2$ & $k = 4$ & $n$" in tables[2]
    rows = re.findall(r"^    (\d) & (\w+) &.*& ([\d, -]+) \\\\$", tables[2], flags=re.MULTILINE)
    marks = {name: mark for mark, name, _ in rows}
    better = {name: beaten.split(", ") for _, name, beaten in rows}
    assert marks["slow"] in better["AdamP"]
    assert better["slow"] == ["--"]


def test_rest_describes_every_field_of_the_verdict(http: httpx.Client) -> None:
    schemas = json.loads(http.get("/openapi.json").text)["components"]["schemas"]
    for name in ("BudgetVerdict", "ArmAtBudget", "PairByBudget", "DifferenceByBudget", "DifferencePoint"):
        assert all("description" in field for field in schemas[name]["properties"].values()), name


def test_power_says_which_gap_was_detectable_and_what_half_of_it_takes(
    run: Run, judged: str, http: httpx.Client
) -> None:
    found = http.get(f"/v1/studies/{judged}/power").json()
    assert found == json.loads(run("power", judged, "--json").stdout)
    gaps = [pair["detectable"] for pair in found["pairs"]]
    assert found["detectable"] == max(gaps) > 0
    for pair in found["pairs"]:
        assert pair["n"] == 16
        assert pair["pairs_for_half"] > 16
        assert pair["trials_for_half"] == 2 * pair["pairs_for_half"]
    assert found["trials_for_half"] == 3 * found["pairs_for_half"]
    # A trial takes 2 epochs of 0.5 s with AdamP and of 0.4 s with AdamW.
    first = found["pairs"][0]
    assert first["seconds_for_half"] == pytest.approx(1.8 * first["pairs_for_half"], rel=0.2)
    shown = run("power", judged).stdout
    assert shown.splitlines()[0] == found["sentence"].replace("\N{NO-BREAK SPACE}", " ")


def test_a_study_without_pairs_says_why_its_power_is_not_known(
    run: Run, store: Store, http: httpx.Client
) -> None:
    bare = _paired(store, search={"paired": 0}, budget={"trials_per_arm": 2, "epochs": 1}).train().close().id
    found = http.get(f"/v1/studies/{bare}/power").json()
    assert (found["detectable"], found["pairs"]) == (None, [])
    assert found["sentence"] == found["why_none"]
    assert "search: {paired: 32}" in run("power", bare).stdout
    assert http.get("/v1/studies/nothing/power").json()["type"] == "/problems/study-not-found"


@pytest.mark.parametrize("form", ["markdown", "html", "latex", "json"])
def test_a_single_arm_with_paired_trials_has_nothing_to_compare(
    run: Run, store: Store, http: httpx.Client, form: str
) -> None:
    study = _paired(store, arms=["adamw"]).train().confirm().close().id
    verdict = analysis_of_study(http, study).by_budget
    assert verdict is not None
    assert (verdict.pairs, verdict.differences) == ((), ())
    assert http.get(f"/v1/studies/{study}/report?format={form}").status_code == 200
    assert http.get(f"/studies/{study}", headers={"accept": "text/html"}).status_code == 200
    assert "nothing to compare" in run("verdict", study).stdout
    assert http.get(f"/v1/studies/{study}/power").json()["why_none"]


_UNTIL = {"paired": 16, "until": {"max_pairs": 64}}


def test_a_plan_says_what_deciding_may_cost(
    run: Run, http: httpx.Client, body: dict[str, Any], tmp_path: Path
) -> None:
    study = body | {"budget": {"trials_per_arm": 20, "epochs": 2}, "search": _UNTIL}
    (tmp_path / "study.json").write_text(json.dumps(study), encoding="utf-8")
    shown = run("submit", str(tmp_path / "study.json"), "--validate-only").stdout
    sentences = shown.splitlines()[1:]
    assert len(sentences) == 6
    assert "the study detects a difference of" in sentences[0]
    assert "at most 136 trials" in sentences[1]
    page = http.post(
        "/new",
        data={"spec": json.dumps(study), "check": "1"},
        headers={"accept": "text/html", "sec-fetch-site": "same-origin"},
    )
    assert page.status_code == 200
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert all(sentence in text for sentence in sentences)
    assert http.get("/v1/studies").json()["total"] == 0
    assert (
        http.post(
            "/new", data={"spec": "{}", "check": "1"}, headers={"sec-fetch-site": "same-origin"}
        ).status_code
        == 422
    )


def test_a_pair_that_was_decided_early_names_its_look(run: Run, store: Store, http: httpx.Client) -> None:
    slow = {"optimizer": "adamw", "name": "slow", "space": {"lr": 1e-5}}
    study = _paired(store, arms=["adamw", slow], search=_UNTIL).train().confirm().close().id
    verdict = analysis_of_study(http, study).by_budget
    assert verdict is not None
    assert [(pair.word, pair.look) for pair in verdict.pairs] == [("better", 16)]
    shown = run("verdict", study).stdout
    level = number(verdict.pairs[0].level, 2)
    assert verdict.pairs[0].level == look_levels(verdict.looks)[0]
    assert re.search(rf"adamw +better than +slow .* 16 +16 +{level} ", shown)
    assert "95 % interval" not in shown.split("fresh seeds:")[0]
    page = http.get(f"/studies/{study}", headers={"accept": "text/html"}).text
    assert "looks at 16, 20" in page
    pairs = page[page.index('id="budget-pairs"') : page.index('id="ship"')]
    assert f'<td class="n">{level}</td>' in pairs
    assert "95 % interval" not in pairs.replace("\N{NO-BREAK SPACE}", " ")
    report = http.get(f"/v1/studies/{study}/report?format=markdown").text
    assert "Lan and DeMets, 1983" in report
    section = report[report.index("Which optimizer is better?") : report.index("Which configuration")]
    [row] = re.findall(r"^\| AdamW \| slow \| better .*$", section, flags=re.MULTILINE)
    assert row.endswith(f"| 16 | 16 | {level} |")
    table = http.get(f"/v1/studies/{study}/report?format=latex").text.split("by-budget")[0]
    assert "p < 0.05" not in table.split(r"\begin{table}")[2]


def test_intervals_without_looks_cover_95_percent(run: Run, judged: str, http: httpx.Client) -> None:
    assert "95 % interval" in run("verdict", judged).stdout.split("fresh seeds:")[0]
    table = http.get(f"/v1/studies/{judged}/report?format=latex").text.split("by-budget")[0]
    assert "p < 0.05" in table.split(r"\begin{table}")[2]
