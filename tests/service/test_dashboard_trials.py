"""The table of trials, and trials side by side."""

import re

import httpx
import pytest
from catalogs import catalog
from trained_studies import Trained

from studies.store import Store


@pytest.fixture
def pages(http: httpx.Client, store: Store) -> httpx.Client:
    """A browser's view of a service with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    http.headers.update({"accept": "text/html"})
    return http


def test_the_table_of_trials_shows_the_chosen_columns_and_what_differs_from_the_defaults(
    store: Store, pages: httpx.Client
) -> None:
    run = Trained(store).train().close()
    table = pages.get(f"/studies/{run.id}?order=number").text.split('id="trials"')[1].split("</table>")[0]
    headers = re.findall(r'<th scope="col"[^>]*>(?:<a[^>]*>)?([^<▲▼]+)', table)
    assert [text.strip() for text in headers] == [
        "Trial",
        "Arm",
        "State",
        "Validation accuracy",
        "Test accuracy",
        "Differs from the defaults in",
        "Training time",
    ]
    defaults, sampled = [row for row in table.split("<tr ") if f"/trials/{run.id}.adamp." in row][:2]
    assert "<dt>" not in defaults
    assert "<dt>lr</dt>" in sampled
    chosen = pages.get(f"/studies/{run.id}?columns=seed&columns=parameter.lr&columns=unknown").text
    assert re.findall(r'name="columns" value="([^"]+)" checked', chosen) == ["parameter.lr", "seed"]
    link = re.search(r'id="sort-number" href="([^"]+)"', chosen)
    assert link is not None
    assert "columns=seed&amp;columns=parameter.lr" in link[1], "sorting must keep the columns"


def test_each_form_keeps_what_the_other_has_asked_for(store: Store, pages: httpx.Client) -> None:
    run = Trained(store).train().close()
    asked = {"phase": "search", "arm": "adamp", "order": "cost", "columns": "seed"}
    pair = {"across": "beta1", "down": "beta2"}
    text = pages.get(f"/studies/{run.id}", params=asked | pair | {"against": "seconds"}).text
    _, one, other = text.split('<form class="filters"')
    hidden = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
    fields = [dict(hidden.findall(form.split("</form>")[0])) for form in (one, other)]
    rest = {"order": "cost", "against": "seconds"}
    assert fields == [{"arm": "adamp", "columns": "seed"} | rest, pair | rest]


def test_heat_maps_of_a_chosen_pair_leave_the_other_charts_as_they_are(
    store: Store, pages: httpx.Client
) -> None:
    run = Trained(store).train().close()

    def heading(**chosen: str) -> str:
        text = pages.get(f"/studies/{run.id}", params=chosen).text
        return re.sub(r"<[^>]+>", "", text.split('<h3 id="pairs-of-hyperparameters">')[1].split("</h3>")[0])

    usual, chosen = heading(), heading(across="delta", down="lr")
    assert (usual, chosen) == ("lr × weight_decay", "delta × lr")
    assert heading(across="delta", down="no such name") == usual


def test_trials_are_compared_side_by_side(store: Store, pages: httpx.Client) -> None:
    run = Trained(store).train().close()
    page = pages.get(f"/compare?trial={run.id}.adamp.1&trial={run.id}.adamw.1").text
    rows = re.findall(r'<tr( class="differs")?><th scope="row"><code>(\w+)', page)
    differing = {name for mark, name in rows if mark}
    assert "delta" in differing
    assert "beta1" not in differing
    assert page.count('class="plot"') >= 7
    assert pages.get(f"/compare?trial={run.id}.adamp.1").status_code == 422
    assert pages.get("/compare?trial=a.b.1&trial=a.b.2").status_code == 404


def test_the_charts_of_every_layer_have_a_page_of_their_own(store: Store, pages: httpx.Client) -> None:
    run = Trained(store, confirmation={"seeds": 2}).train().confirm().close()
    study = pages.get(f"/studies/{run.id}").text
    assert 'id="layers-growth-by-layer"' in study
    assert 'id="layer-growth-0"' not in study
    assert f'<a href="/studies/{run.id}/layers/adamp">' in study, "it works without scripts"
    page = pages.get(f"/studies/{run.id}/layers/adamp").text
    assert re.findall(r'class="plot[^"]*" id="([\w-]+)"', page) == [
        "layer-growth-0",
        "layer-step-0",
        "layer-angle-0",
    ]
    assert pages.get(f"/studies/{run.id}/layers/nosuch").status_code == 404
    assert pages.get("/studies/nosuch/layers/adamp").status_code == 404
