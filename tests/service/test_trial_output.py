"""The end of what a trial printed: on its page, by REST and on the command line."""

import json
from collections.abc import Callable

import httpx
import pytest
from catalogs import catalog
from trained_studies import Trained
from typer.testing import Result

from studies.store import Store

__all__: list[str] = []

Run = Callable[..., Result]


@pytest.fixture
def printed(store: Store) -> str:
    """Return the id of a trial whose pack of two has printed something."""
    store.announce(catalog(), dispatcher="here")
    study = Trained(store, width=8, budget={"trials_per_arm": 3, "epochs": 4}).train(1)
    attempts = {f"{study.id}.adamp.{number}": 1 for number in (0, 1)}
    study._writer.record_output("pack", attempts, text="<b>a</b>\nlast", size=1_200_000_000)
    return f"{study.id}.adamp.0"


def test_a_trials_page_shows_its_output_as_text_and_whose_it_is(http: httpx.Client, printed: str) -> None:
    page = http.get(f"/trials/{printed}", headers={"accept": "text/html"}).text
    section = page.split('id="printed"')[1].split("</section>")[0]
    assert "<code>&lt;b&gt;a&lt;/b&gt;\nlast</code>" in section
    assert "2 trials" in section
    assert "1.2\N{NO-BREAK SPACE}GB" in section


def test_only_trials_that_printed_something_have_a_section(http: httpx.Client, printed: str) -> None:
    study_id = printed.partition(".")[0]
    pages = [
        http.get(f"/trials/{study_id}.adamp.{number}", headers={"accept": "text/html"}) for number in range(3)
    ]
    assert [page.status_code for page in pages] == [200, 200, 200]
    assert ['id="output"' in page.text for page in pages] == [True, True, False]


def test_rest_returns_the_output(http: httpx.Client, printed: str) -> None:
    found = http.get(f"/v1/trials/{printed}/output").json()
    assert (found["text"], found["size"], found["trials"], found["attempt"]) == (
        "<b>a</b>\nlast",
        1_200_000_000,
        2,
        1,
    )
    assert http.get("/v1/trials/nothing.adamp.0/output").status_code == 404


def test_the_command_prints_the_output_alone_to_standard_output(run: Run, printed: str) -> None:
    result = run("output", printed)
    assert (result.exit_code, result.stdout) == (0, "<b>a</b>\nlast\n")
    assert "2 trials" in result.stderr
    assert json.loads(run("output", printed, "--json").stdout)["size"] == 1_200_000_000
    assert run("output", "nothing.adamp.0").exit_code != 0
