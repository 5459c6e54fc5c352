"""Trials as CSV: rows, columns of hyperparameters, and escaped formulas."""

import csv
import io

import httpx
import pytest
from catalogs import catalog
from trained_studies import Trained

from service.dashboard.trials_csv import trials_csv
from studies.errors import StudyNotFound
from studies.store import Store


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


def test_trials_download_as_csv_with_a_column_per_hyperparameter(http: httpx.Client, known: Store) -> None:
    study_id = (
        Trained(known, arms=["adamp", "adamw", "sgdp", "stepper"], budget={"trials_per_arm": 6, "epochs": 3})
        .train()
        .close()
        .id
    )
    answer = http.get(f"/studies/{study_id}/trials.csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{study_id}-trials.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 24
    trial = known.trial(f"{study_id}.adamp.3")
    [row] = [row for row in rows if row["id"] == trial.id]
    assert float(row["lr"]) == trial.parameters["lr"]
    assert row["k"] == ""
    assert [
        row["arm"]
        for row in csv.DictReader(io.StringIO(http.get(f"/studies/{study_id}/trials.csv?arm=sgdp").text))
    ] == ["sgdp"] * 6


def test_test_values_of_further_metrics_have_a_column_each(known: Store) -> None:
    study_id = Trained(known, arms=["adamp"], budget={"trials_per_arm": 2, "epochs": 1}).train().close().id
    one, other = known.every_trial(study_id)
    measured = one.model_copy(update={"test_metrics": {"=top-5": 0.5}})
    first, second = csv.DictReader(io.StringIO(trials_csv([measured, other])))
    assert (first["test_metrics.=top-5"], second["test_metrics.=top-5"]) == ("0.5", "")


def test_trials_are_sent_part_by_part_and_compressed(http: httpx.Client, known: Store) -> None:
    study_id = Trained(known, budget={"trials_per_arm": 6, "epochs": 1}).train().close().id
    listed, parts = known.trials_in_parts(study_id, arm=None, state=None, phase="search", part=5)
    read = list(parts)
    assert [len(part) for part in read] == [5, 5, 2]
    assert tuple(trial for part in read for trial in part) == known.every_trial(study_id)
    assert listed.ids == tuple(trial.id for part in read for trial in part)
    path = f"/studies/{study_id}/trials.csv"
    plain = http.get(path, headers={"accept-encoding": "identity"})
    answer = http.get(path, headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert (answer.text, "content-encoding" in plain.headers) == (plain.text, False)
    assert all(each.headers["vary"] == "Accept-Encoding" for each in (plain, answer))


def test_a_study_that_is_deleted_while_its_trials_are_read_is_not_complete(known: Store) -> None:
    study_id = Trained(known, budget={"trials_per_arm": 4, "epochs": 1}).train().close().id
    _, parts = known.trials_in_parts(study_id, arm=None, state=None, phase="search", part=5)
    assert len(next(parts)) == 5
    known.delete(study_id)
    with pytest.raises(StudyNotFound, match=study_id):
        next(parts)


HOSTILE = {
    "=HYPERLINK(1)": "'=HYPERLINK(1)",
    "-x": "'-x",
    "+1+cmd|' /C calc'!A0": "'+1+cmd|' /C calc'!A0",
    "@SUM(1)": "'@SUM(1)",
    "\t=1": "'\t'=1",
    "\r\n=1": "'\n'=1",
    "a\n=1": "a\n'=1",
    "\uff1d1": "'\uff1d1",
    # Spreadsheets of some languages separate cells at semicolons.
    "x;=1;-2": "x;'=1;'-2",
    'x";=1': "x\";'=1",
    "\x1b[2J\x00=1\u202e": "[2J=1",
    "\x00=1": "'=1",
    "expected a - b = c": "expected a - b = c",
    "a, b": "a, b",
    "": "",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_table_is_a_formula_or_a_control_character(known: Store, text: str) -> None:
    trial = known.every_trial(Trained(known).train().id)[0]
    hostile = trial.model_copy(
        update={"reason": text, "worker": text, "parameters": {**trial.parameters, text: text}}
    )
    header, row = csv.reader(io.StringIO(trials_csv([hostile]), newline=""))
    cells = dict(zip(header, row, strict=True))
    expected = HOSTILE[text]
    assert (cells["reason"], cells["worker"], cells[expected]) == (expected, expected, expected)
