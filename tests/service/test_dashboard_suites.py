"""Pages of several studies: all suites, one suite, and a comparison of studies."""

import json
import re
from typing import Any

import httpx
import pytest
from catalogs import catalog
from trained_studies import Trained

from service.dashboard.theme import CONTENT_SECURITY_POLICY
from studies.analysis.suite import analyse_suite
from studies.store import Store

ARMS = ["adamp", "adamw", "stepper"]
FIELDS: dict[str, Any] = {
    "arms": ARMS,
    "budget": {"trials_per_arm": 5, "epochs": 2},
    "confirmation": {"seeds": 3},
    "suite": "small-nets",
}


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.fixture
def suite(known: Store) -> Store:
    """A suite of two workloads, and a third study that has not finished."""
    for workload in ("digits-mlp", "char-lm"):
        Trained(known, workload=workload, name=f"on {workload}", width=8, **FIELDS).train().confirm().close()
    Trained(known, name="under way", **FIELDS).train(1)
    return known


def read(http: httpx.Client, path: str) -> str:
    answer = http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    twin = re.search(r'rel="alternate" type="application/json" href="([^"]+)"', answer.text)
    assert twin is not None
    assert http.get(twin[1].replace("&amp;", "&")).status_code == 200
    return answer.text


def figures(html: str) -> dict[str, Any]:
    return {
        name: json.loads(text)
        for name, text in re.findall(
            r'<script type="application/json" id="([\w-]+)-data">(.*?)</script>', html, re.DOTALL
        )
    }


def test_suites_are_listed_with_their_workloads(http: httpx.Client, suite: Store) -> None:
    html = read(http, "/suites")
    assert 'href="/suites/small-nets"' in html
    assert "char-lm, digits-mlp" in html
    assert suite.suites()[0].studies == 3


def test_the_empty_list_of_suites_shows_how_to_name_one(http: httpx.Client, known: Store) -> None:
    assert known.suites() == ()
    assert "&#34;suite&#34;" in read(http, "/suites") or '"suite"' in read(http, "/suites")


def test_a_suite_shows_its_finding_all_scores_and_why_a_study_is_not_counted(
    http: httpx.Client, suite: Store
) -> None:
    html = read(http, "/suites/small-nets")
    analysis = analyse_suite(
        "small-nets", [suite.study_record(study_id) for study_id in suite.study_ids_of_suite("small-nets")]
    )
    plain = html.replace("&#39;", "'").replace("\N{NO-BREAK SPACE}", " ")
    assert analysis.finding.sentence.replace("\N{NO-BREAK SPACE}", " ") in plain
    for arm in analysis.arms:
        assert arm.iqm is not None
        assert f"{arm.iqm:.3f}".replace("-", "−") in html
    [left_out] = [study for study in analysis.studies if not study.is_counted]
    assert left_out.why_not is not None
    assert left_out.why_not in plain
    assert set(figures(html)) == {"iqm", "relative", "profiles"}
    assert "2 of 3 studies counted" in html


def test_an_arm_of_a_suite_has_one_colour_in_every_chart(http: httpx.Client, suite: Store) -> None:
    assert suite is not None
    drawn = figures(read(http, "/suites/small-nets"))
    for name in ARMS:
        colours = {
            trace["marker"]["color"]
            for figure in drawn.values()
            for trace in figure["data"]
            if trace.get("meta") == {"arm": name} and "color" in trace.get("marker", {})
        }
        assert len(colours) == 1


def test_the_colour_of_an_arm_of_a_suite_is_that_of_its_optimizer(http: httpx.Client, known: Store) -> None:
    arms = [{"optimizer": "adamw", "name": "a-narrow"}, "adamp"]
    for workload in ("digits-mlp", "char-lm"):
        Trained(known, workload=workload, width=8, **FIELDS | {"arms": arms}).train().confirm().close()
    drawn = figures(read(http, "/suites/small-nets"))["iqm"]["data"]
    colours = {trace["meta"]["arm"]: trace["marker"]["color"] for trace in drawn}
    # As on the page of a study (`studies.arm_styles`).
    assert colours == {"adamp": "var(--arm-0)", "a-narrow": "var(--arm-1)"}


def test_chances_to_win_of_both_sides_add_up_to_one(http: httpx.Client, suite: Store) -> None:
    assert suite is not None
    table = read(http, "/suites/small-nets").split('id="wins"')[1].split("</table>")[0]
    rows = [re.findall(r"<td>(?:(\d+)\N{NO-BREAK SPACE}%<br>|<span)", row) for row in table.split("<tr>")[2:]]
    assert len(rows) == 3
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            assert (cell == "") == (i == j)
            assert i == j or abs(int(cell) + int(rows[j][i]) - 100) <= 1


def test_an_unknown_suite_is_not_found(http: httpx.Client, known: Store) -> None:
    assert known is not None
    for name in ("nosuch", "No Such", "%00"):
        assert http.get(f"/suites/{name}", headers={"accept": "text/html"}).status_code == 404


def test_a_suite_without_results_has_a_page_without_charts(http: httpx.Client, known: Store) -> None:
    Trained(known, **FIELDS).train(1)
    html = read(http, "/suites/small-nets")
    assert "0 of 1 study counted" in html
    assert figures(html) == {}


def test_selected_studies_are_compared(http: httpx.Client, known: Store) -> None:
    fields: dict[str, Any] = {"budget": {"trials_per_arm": 4, "epochs": 2}, "confirmation": {"seeds": 3}}
    one = Trained(known, name="one", arms=["adamp", "adamw"], **fields).train().confirm().close().id
    two = Trained(known, name="two", arms=["adamp", "sgdp"], seed=3, **fields).train().confirm().close().id
    chosen = re.findall(r'<input type="checkbox" name="study" value="([a-z0-9]+)"', read(http, "/"))
    assert set(chosen) == {one, two}
    html = read(http, f"/compare?study={one}&study={two}")
    for name in (f"AdamP ({one})", f"AdamP ({two})", "AdamW", "SGDP"):
        assert name in html
    assert html.count('class="word') == 6
    picked = re.findall(r'form="compare-arms" name="arm" value="([a-z0-9.]+)"', read(http, f"/studies/{one}"))
    assert set(picked) == {f"{one}.adamp", f"{one}.adamw"}
    html = read(http, f"/compare?arm={one}.adamw&arm={two}.sgdp&against=epochs&study=")
    drawn = figures(html)
    assert {trace["meta"]["arm"] for trace in drawn["compared-curves"]["data"]} == {"adamw", "sgdp"}
    assert drawn["compared-curves"]["layout"]["xaxis"]["title"]["text"] == "epochs trained by an arm"
    assert "There is no budget verdict, because it needs paired trials" in html
    table = html.split('class="side-by-side"')[1].split("</table>")[0]
    differing = set(re.findall(r'<tr class="differs"><th scope="row"><code>(\w+)', table))
    assert {"beta1", "momentum"} <= differing
    boxes = re.findall(r'name="arm" value="([a-z0-9.]+)"( checked)?', html)
    assert {name for name, checked in boxes if checked} == {f"{one}.adamw", f"{two}.sgdp"}
    assert len(boxes) == 4


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("study=ONE", 422),
        ("study=ONE&study=ONE", 422),
        ("study=ONE&study=nosuch", 404),
        ("arm=ONE.adamp", 422),
        ("arm=ONE.adamp&arm=ONE.nosuch", 422),
        ("arm=ONE.adamp&arm=nosuch.adamp", 404),
        ("arm=ONE&arm=ONE.adamp", 422),
    ],
)
def test_studies_that_cannot_be_compared_get_an_error_page(
    http: httpx.Client, known: Store, query: str, status: int
) -> None:
    one = Trained(known).train().close().id
    answer = http.get(f"/compare?{query.replace('ONE', one)}", headers={"accept": "text/html"})
    assert answer.status_code == status
    assert "<h1>" in answer.text


def test_for_studies_of_several_workloads_the_page_suggests_a_suite(http: httpx.Client, known: Store) -> None:
    one = Trained(known).train().close().id
    text = Trained(known, workload="char-lm", suite="small-nets").train().close().id
    html = read(http, f"/compare?arm={one}.adamp&study={text}")
    assert f"tangent label {one} small-nets" in html
    assert f"tangent label {text}" not in html
    fields = dict(re.findall(r'name="(studies|suite)" value="([^"]+)"', html))
    assert fields == {"studies": one, "suite": "small-nets"}
    answer = http.post(
        "/suites", data=fields, headers={"accept": "text/html", "sec-fetch-site": "same-origin"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/suites/small-nets")
    assert set(known.study_ids_of_suite("small-nets")) == {one, text}
    html = read(http, f"/compare?study={one}&study={text}")
    assert 'href="/suites/small-nets">Open the suite' in html
    assert "tangent label" not in html


@pytest.mark.parametrize("studies", ["", "a/b", " ".join(f"a{number}" for number in range(17))])
def test_a_suite_of_no_or_too_many_or_impossible_studies_is_refused(http: httpx.Client, studies: str) -> None:
    headers = {"accept": "application/json", "sec-fetch-site": "same-origin"}
    answer = http.post("/suites", data={"suite": "small-nets", "studies": studies}, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/studies")


def test_the_list_of_studies_can_be_filtered_by_suite(http: httpx.Client, suite: Store) -> None:
    Trained(suite, name="alone").train(1)
    html = read(http, "/?suite=small-nets")
    assert "3 of 3 studies" in html
    assert "alone" not in html
    assert "No studies in suite other" in http.get("/?suite=other", headers={"accept": "text/html"}).text
