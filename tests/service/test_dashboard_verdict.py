"""A study's verdict, and the forms that confirm, extend, clone and submit studies."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from catalogs import catalog
from submission_form import SubmissionForm
from trained_studies import Trained

from service.dashboard.tables import needs_reason, tables_of
from studies.analysis.analyse import analyse
from studies.brief_spec import brief_spec
from studies.formatting import change, interval, metric
from studies.spec import parse_spec
from studies.store import Store
from studies.trials import NewTrial

BUDGET = {"trials_per_arm": 8, "epochs": 3}
FORM = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.fixture
def page(http: httpx.Client, known: Store) -> Callable[[str], str]:
    """The text of a page without scripts and tags."""
    assert known is not None
    http.headers["accept"] = "text/html"

    def read(path: str) -> str:
        answer = http.get(path)
        assert answer.status_code == 200, answer.text
        bare = re.sub(r"<script.*?</script>|<[^>]+>", " ", answer.text, flags=re.DOTALL)
        return (
            re.sub(r"\s+", " ", bare.replace("\N{NO-BREAK SPACE}", " "))
            .replace("&#39;", "'")
            .replace("&lt;", "<")
            .replace("&#34;", '"')
        )

    return read


def confirmed(store: Store, **fields: Any) -> str:
    given = {
        "arms": ["adamp", "adamw", "sgdp", "stepper"],
        "budget": BUDGET,
        "sampler": "random",
        "confirmation": {"seeds": 4},
    } | fields
    return Trained(store, width=8, **given).train().confirm().close().id


def post(http: httpx.Client, path: str, **fields: object) -> httpx.Response:
    return http.post(path, content=urlencode(fields), headers={**FORM, "accept": "text/html"})


def test_the_finding_comes_first_and_its_limits_below_it(page: Callable[[str], str], known: Store) -> None:
    study_id = confirmed(known)
    finding = analyse(known.study_record(study_id)).finding
    shown = page(f"/studies/{study_id}")
    plain = finding.sentence.replace("\N{NO-BREAK SPACE}", " ")
    assert shown.index(plain) < shown.index("Checks", shown.index(plain))
    assert shown.count(plain) == 1
    assert all(limit.replace("\N{NO-BREAK SPACE}", " ") in shown for limit in finding.limits)


def test_every_confirmed_configuration_has_its_interval_and_shrinkage(
    page: Callable[[str], str], known: Store
) -> None:
    study_id = confirmed(known)
    shown = page(f"/studies/{study_id}")
    found = analyse(known.study_record(study_id)).confirmed
    assert len(found) >= 7
    for one in found:
        expected = (
            metric(one.test_mean, "fraction"),
            interval(one.test_low, one.test_high, "fraction"),
            change(one.shrinkage, "fraction"),
        )
        assert all(part.replace("\N{NO-BREAK SPACE}", " ") in shown for part in expected)
        assert f"{one.configuration} trial {one.number}" in shown
        assert f"{one.completed} of {one.seeds}" in shown


def test_every_pair_has_its_verdict_reason_and_numbers(page: Callable[[str], str], known: Store) -> None:
    study_id = confirmed(known)
    shown = page(f"/studies/{study_id}")
    pairs = analyse(known.study_record(study_id)).pairs
    assert len(pairs) == 6
    for pair in pairs:
        assert (pair.reason.replace("\N{NO-BREAK SPACE}", " ") in shown) == needs_reason(pair)
        assert f"{change(pair.difference, 'fraction')}" in shown
        assert f"covers {pair.covers}." in shown
    assert "p is corrected for 6 comparisons" in shown


def test_a_matrix_reads_the_same_from_both_sides(known: Store) -> None:
    study_id = confirmed(known)
    tables = tables_of(analyse(known.study_record(study_id)), known.arms(study_id))
    turned = {"better": "worse", "worse": "better", "undecided": "undecided"}
    for i, (_, row) in enumerate(tables.matrix):
        assert row[i] is None
        for j, cell in enumerate(row):
            other = tables.matrix[j][1][i]
            assert (cell is None) == (other is None)
            if cell is not None and other is not None:
                assert turned[cell.word] == other.word
                assert {cell.difference[0], other.difference[0]} in ({"+", "−"}, {"0"})


def test_warnings_come_before_remarks_and_offer_a_study(
    page: Callable[[str], str], http: httpx.Client, known: Store
) -> None:
    narrow = {"optimizer": "adamw", "space": {"lr": {"low": 1e-4, "high": 1e-3, "log": True}}}
    study_id = confirmed(known, arms=[narrow, "adamp"])
    checks = analyse(known.study_record(study_id)).checks
    offered = next(n for n, check in enumerate(checks) if check.spec is not None)
    html = http.get(f"/studies/{study_id}").text
    assert f'href="/new?study={study_id}&amp;check={offered}"' in html
    assert (
        html.index('class="checks is-warning"') < html.index('<ul class="checks">')
        if any(not check.is_warning for check in checks)
        else True
    )
    form = page(f"/new?study={study_id}&check={offered}")
    assert checks[offered].sentence.replace("\N{NO-BREAK SPACE}", " ").replace("`", "") in form
    assert '"workload": "digits-mlp"' in form


def test_budget_curves_are_links_and_need_no_script(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known)
    html = http.get(f"/studies/{study_id}?arm=adamw", headers={"accept": "text/html"}).text
    assert f'href="/studies/{study_id}?arm=adamw&amp;against=epochs#budget"' in html
    other = http.get(f"/studies/{study_id}?against=seconds", headers={"accept": "text/html"}).text
    assert "Best validation accuracy by training seconds spent" in other
    assert http.get(f"/studies/{study_id}?against=luck", headers={"accept": "text/html"}).status_code == 422


def test_confirmation_runs_have_their_own_list_and_pages(
    page: Callable[[str], str], http: httpx.Client, known: Store
) -> None:
    study_id = confirmed(known)
    runs = known.every_trial(study_id, phase="confirmation")
    table = http.get(f"/studies/{study_id}?phase=confirmation&order=number").text.split('id="trials"')[1]
    assert f"{min(25, len(runs))} of {len(runs)} confirmation runs" in table
    assert f"/trials/{study_id}.adamp.c0" in table
    assert f"/trials/{study_id}.adamp.c" not in http.get(f"/studies/{study_id}").text.split('id="trials"')[1]
    shown = page(f"/trials/{study_id}.adamp.c0")
    assert "AdamP, confirmation 0" in shown
    assert f"trial {runs[0].confirms} , trained on a fresh seed" in shown
    lines = http.get(f"/studies/{study_id}/trials.csv?phase=confirmation").text.splitlines()
    assert len(lines) == 1 + len(runs)


def test_replicates_and_studies_without_confirmation_are_described(
    page: Callable[[str], str], known: Store
) -> None:
    budget = {"trials_per_arm": 3, "epochs": 2, "replicates": 2}
    shown = page(
        f"/studies/{Trained(known, budget=budget, confirmation={'seeds': 2}).train().confirm().close().id}"
    )
    assert "best of replicate 2" in shown
    assert "3 in each of 2 replicates" in shown
    bare = page(f"/studies/{Trained(known).train().close().id}")
    assert "No configuration has been confirmed on fresh seeds" in bare


def test_an_arm_that_never_reaches_the_target_is_shown_as_missed(
    page: Callable[[str], str], known: Store
) -> None:
    shown = page(
        f"/studies/{confirmed(known, arms=['adamp', {'optimizer': 'stepper', 'space': {'lr': 1e-5}}])}"
    )
    target = shown[shown.index("Runs that reached") :]
    assert "Stepper 0 of 4 missed missed" in target


def test_the_page_links_the_report_in_every_format(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    html = http.get(f"/studies/{study_id}", headers={"accept": "text/html"}).text
    links = re.findall(rf'href="(/v1/studies/{study_id}/(?:report|bundle)[^"]*)"', html)
    assert links == [
        f"/v1/studies/{study_id}/report?format={kind}" for kind in ("html", "markdown", "latex", "json")
    ] + [f"/v1/studies/{study_id}/bundle"]
    assert {http.get(link).status_code for link in links} == {200}


def test_the_form_for_more_seeds_extends_once_and_leads_back(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    version = known.study(study_id).version
    answer = post(http, f"/studies/{study_id}/confirm", seeds=6, version=version)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{study_id}")
    study = known.study(study_id)
    assert (study.state, study.spec.confirmation.seeds) == ("queued", 6)
    again = post(http, f"/studies/{study_id}/confirm", seeds=6, version=version)
    assert again.status_code in {409, 412}, "a form that is sent twice must extend once"


def test_an_extension_uses_only_the_fields_that_were_filled_in(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    answer = post(http, f"/studies/{study_id}/extend", trials_per_arm=10, replicates="", seeds="", arm="sgdp")
    assert answer.status_code == 303
    spec = known.study(study_id).spec
    assert (spec.budget.trials_per_arm, spec.budget.replicates, spec.confirmation.seeds) == (10, 1, 4)
    assert [arm.name for arm in spec.arms] == ["adamp", "adamw", "sgdp"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"trials_per_arm": 2}, {"seeds": "many"}, {"seeds": "9" * 30}, {"arm": "adamp"}, {"arm": "nosuch"}],
)
def test_an_invalid_extension_gets_an_error_page(
    http: httpx.Client, known: Store, fields: dict[str, object]
) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    answer = post(http, f"/studies/{study_id}/extend", **fields)
    assert answer.status_code == 422
    assert "<h1>" in answer.text
    assert known.study(study_id).state == "completed"


def test_only_a_completed_study_can_be_extended(http: httpx.Client, known: Store) -> None:
    run = Trained(known).train(1)
    html = http.get(f"/studies/{run.id}", headers={"accept": "text/html"}).text
    assert "/extend" not in html
    assert "/confirm" not in html
    assert post(http, f"/studies/{run.id}/extend", seeds=3).status_code == 409
    assert f'href="/new?study={run.id}"' in html


def test_a_study_can_be_cloned_from_its_page(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    page = SubmissionForm(http.get(f"/new?study={study_id}&as=text", headers={"accept": "text/html"}).text)
    text = page.texts["spec-text"]
    assert json.loads(text) == brief_spec(known.study(study_id).spec)
    answer = post(http, "/new", spec=text.replace("\n", "\r\n"))
    assert answer.status_code == 303
    clone = known.study(answer.headers["location"].rsplit("/", 1)[1])
    assert clone.id != study_id
    assert clone.spec == known.study(study_id).spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("", "empty"),
        ('{"workload": "digits-mlp", "arms": ["adam"], "budget": {"trials_per_arm": 1}}', "/arms/0"),
        ('{"workload": "digits-mlp", "arms": [], "budget": {"trials_per_arm": 1}}', "/arms"),
        ("[1]", "expected"),
    ],
)
def test_an_invalid_study_is_shown_again_with_its_problems(
    http: httpx.Client, known: Store, text: str, message: str
) -> None:
    answer = post(http, "/new", spec=text)
    assert answer.status_code == 422
    assert message in answer.text
    assert f"{text.replace(chr(34), '&#34;')}</textarea>" in answer.text
    assert known.studies().total == 0


def test_an_unknown_check_is_not_found(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    for check in (-1, 999):
        answer = http.get(f"/new?study={study_id}&check={check}", headers={"accept": "text/html"})
        assert answer.status_code == 404
        assert f"no check {check}" in answer.text
    assert http.get("/new?study=nosuch", headers={"accept": "text/html"}).status_code == 404


def test_another_site_can_neither_extend_nor_submit(http: httpx.Client, known: Store) -> None:
    study_id = confirmed(known, arms=["adamp", "adamw"])
    foreign = FORM | {"sec-fetch-site": "cross-site", "origin": "http://example.com"}
    for path, body in (
        (f"/studies/{study_id}/extend", "seeds=9"),
        (f"/studies/{study_id}/confirm", "seeds=9"),
        ("/new", "spec={}"),
    ):
        assert http.post(path, content=body, headers=foreign).status_code == 403
    assert known.study(study_id).state == "completed"


def test_a_viewer_cannot_submit_from_the_page(http: httpx.Client, known: Store) -> None:
    http.auth = ("", known.create_token("eve", role="viewer"))
    assert post(http, "/new", spec="{}").status_code == 403


def test_a_live_page_redraws_its_verdict_when_the_first_trials_start(
    http: httpx.Client, known: Store
) -> None:
    http.headers["accept"] = "text/html"
    body = {"workload": "digits-mlp", "arms": ["adamp"], "budget": {"trials_per_arm": 2, "epochs": 2}}
    study_id = known.submit(parse_spec(body)).id
    queued = http.get(f"/studies/{study_id}").text
    assert "dispatcher" in finding_of(queued)
    claim = known.claim_next(dispatcher="here", lease_s=600.0)
    assert claim is not None
    update = http.get(update_url(queued)).text
    assert "dispatcher" not in finding_of(update)
    writer = known.run_writer(claim, lease_s=600.0)
    defaults = dict(known.arms(study_id)[0].defaults)
    writer.start(writer.create([NewTrial("adamp", 0, "default", defaults, seed=1, replicate=0)]))
    # The finding has no counts, because the next trial would make them outdated; the status line has them.
    assert finding_of(http.get(update_url(update)).text) == "No trial has finished yet."


def finding_of(html: str) -> str:
    found = re.search(r'<p class="finding">(.*?)</p>', html)
    assert found is not None, "the verdict is not part of this update"
    return found[1]


def update_url(html: str) -> str:
    found = re.search(r'hx-get="([^"]*/live[^"]*)"', html)
    assert found is not None
    return found[1].replace("&amp;", "&")


def test_a_study_without_results_does_not_claim_that_all_checks_passed(
    http: httpx.Client, known: Store
) -> None:
    http.headers["accept"] = "text/html"

    def checks(study_id: str) -> str:
        html = http.get(f"/studies/{study_id}").text
        return html[html.index('id="checks"') : html.index('id="confirmed"')]

    assert "No problems found" not in checks(Trained(known).train(1).id)
    plenty = {"trials_per_arm": 50, "epochs": 1}
    done = Trained(known, width=8, arms=["adamw"], budget=plenty).train().close()
    assert ("No problems found" in checks(done.id)) == (not analyse(known.study_record(done.id)).checks)


def test_a_live_page_redraws_its_verdict_after_confirmation_runs(http: httpx.Client, known: Store) -> None:
    run = Trained(
        known, confirmation={"seeds": 2}, width=1, budget={"trials_per_arm": 2, "epochs": 1}
    ).train()
    http.headers["accept"] = "text/html"

    url = update_url(http.get(f"/studies/{run.id}?against=epochs").text)
    assert "against=epochs" in url
    assert http.get(url).status_code == 204
    run.confirm()
    update = http.get(url).text
    assert 'id="evidence" hx-swap-oob="morph"' in update
    assert 'id="confirmed-runs-data"' in update
    assert "Best validation accuracy by epochs spent" in update
    url = update_url(update)
    run.close()
    last = http.get(url).text
    assert "every 2s" not in last
    assert 'id="evidence" hx-swap-oob="morph"' in last, "the verdict must be final"
