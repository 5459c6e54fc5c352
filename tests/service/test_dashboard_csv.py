"""Trials as CSV: rows, columns of hyperparameters, and escaped formulas."""

import csv
import io

import httpx
import pytest
from catalogs import catalog
from trained_studies import Trained

from service.dashboard.trials_csv import trials_csv
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


def test_a_formula_in_a_reason_is_escaped(known: Store) -> None:
    run = Trained(known).train()
    trial = known.every_trial(run.id)[0].model_copy(update={"reason": "=HYPERLINK(1)", "worker": "-x"})
    assert "'=HYPERLINK(1)" in trials_csv([trial])
    assert "'-x" in trials_csv([trial])
