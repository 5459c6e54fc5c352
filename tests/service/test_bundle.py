"""Bundles over REST: complete, reproducible byte for byte, and consistent with their manifest."""

import csv
import hashlib
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pyarrow import parquet
from trained_studies import Trained

from service.analysis_cache import AnalysisCache
from service.dashboard.trials_csv import trials_csv
from service.report import bundle_writer
from service.report.manifest import FILES, bundle_name
from service.report.study_report import report_of
from studies.catalog import Catalog
from studies.resolve import ResolvedStudy, resolve
from studies.seeds import confirmation_seed, paired_seed, trial_seed
from studies.spec import StudySpec, parse_spec
from studies.store import Store
from studies.trials import Measurement, NewTrial, Report

__all__: list[str] = []

Play = Callable[..., str]


@pytest.fixture
def study(play: Play, body: dict[str, Any]) -> str:
    return play(body | {"name": "AdamP & AdamW: who wins?", "suite": "small"}, confirm=5)


def opened(http: httpx.Client, study: str) -> zipfile.ZipFile:
    answer = http.get(f"/v1/studies/{study}/bundle")
    assert answer.status_code == 200, answer.text
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_a_bundle_is_a_zip_file_named_after_its_study(http: httpx.Client, study: str) -> None:
    answer = http.get(f"/v1/studies/{study}/bundle")
    assert answer.headers["content-type"] == "application/zip"
    assert (
        answer.headers["content-disposition"]
        == f'attachment; filename="adamp-adamw-who-wins-{study}.tangent.zip"'
    )
    assert answer.headers["content-length"] == str(len(answer.content))


def test_an_unchanged_study_gives_the_same_bytes(http: httpx.Client, study: str) -> None:
    assert http.get(f"/v1/studies/{study}/bundle").content == http.get(f"/v1/studies/{study}/bundle").content


def test_every_file_is_explained_and_matches_the_manifest(http: httpx.Client, study: str) -> None:
    with opened(http, study) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*FILES, "manifest.json"]
        manifest = json.loads(archive.read("manifest.json"))
        readme = archive.read("README.txt").decode()
        for name in FILES:
            content = archive.read(name)
            assert manifest["files"][name] == {
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            assert name in readme
        assert (manifest["study_id"], manifest["state"], manifest["format"]) == (study, "completed", 3)


def test_spec_and_plan_equal_those_of_the_study(
    http: httpx.Client, store: Store, study: str, catalog: Catalog
) -> None:
    with opened(http, study) as archive:
        spec = StudySpec.model_validate_json(archive.read("spec.json"))
        assert spec == store.study(study).spec
        assert ResolvedStudy.model_validate_json(archive.read("plan.json")) == resolve(spec, catalog)


def test_the_bundles_reports_equal_those_of_the_service(http: httpx.Client, study: str) -> None:
    with opened(http, study) as archive:
        for name, form in (("report.md", "markdown"), ("report.html", "html"), ("table.tex", "latex")):
            assert archive.read(name).decode() == http.get(f"/v1/studies/{study}/report?format={form}").text
        assert json.loads(archive.read("analysis.json")) == http.get(f"/v1/studies/{study}/analysis").json()


def test_layers_are_in_a_table_of_their_own(http: httpx.Client, store: Store) -> None:
    trained = Trained(store, arms=["adamp", "adamw"], confirmation={"seeds": 2})
    study = trained.train().confirm().close().id
    trials = [trial.id for trial in store.every_trial(study, phase=None)]
    layers = store.layers_of(study, trials)
    with opened(http, study) as archive:
        table = parquet.read_table(io.BytesIO(archive.read("layers.parquet"))).to_pylist()
    assert {row["trial_id"] for row in table} == set(layers)
    assert len(table) == sum(len(of.names) * (len(of.epochs) + 1) for of in layers.values())
    of = layers[f"{study}.adamp.0"]
    assert of.epochs[0].projected_by_channel
    assert http.get(f"/v1/trials/{of.trial_id}/layers").json() == of.model_dump(mode="json")
    assert http.get(f"/v1/studies/{study}/layers").json() == store.study_layers(study).model_dump(mode="json")
    first, second = (
        [row for row in table if (row["trial_id"], row["epoch"]) == (of.trial_id, epoch)] for epoch in (0, 1)
    )
    assert [(row["layer"], row["is_scale_invariant"], row["weight_norm"], row["angle"]) for row in first] == [
        (name, known, norm, None)
        for name, known, norm in zip(of.names, of.is_scale_invariant, of.initial_norms, strict=True)
    ]
    for name in ("weight_norm", "effective_step", "angle", "projected_by_channel", "projected_as_layer"):
        assert tuple(row[name] for row in second) == getattr(of.epochs[0], name)


def test_trials_of_both_phases_are_in_both_tables(http: httpx.Client, store: Store, study: str) -> None:
    trials = {trial.id: trial for trial in store.every_trial(study, phase=None)}
    assert {trial.phase for trial in trials.values()} == {"search", "confirmation"}
    with opened(http, study) as archive:
        table = parquet.read_table(io.BytesIO(archive.read("trials.parquet"))).to_pylist()
        text = archive.read("trials.csv").decode()
    assert [row["id"] for row in table] == [row["id"] for row in csv.DictReader(io.StringIO(text))]
    assert text == trials_csv([trials[row["id"]] for row in table])
    assert len(table) == len(trials)
    for row in table:
        trial = trials[row["id"]]
        found = {
            name.removeprefix("parameters."): value
            for name, value in row.items()
            if name.startswith("parameters.") and value is not None
        }
        assert found == trial.parameters
        for name in (
            "arm",
            "phase",
            "number",
            "confirms",
            "pair_index",
            "state",
            "seed",
            "value",
            "test_value",
            "created_at",
            "ended_at",
        ):
            assert row[name] == getattr(trial, name)


def test_every_measurement_is_in_both_tables(http: httpx.Client, store: Store, study: str) -> None:
    trials = store.every_trial(study, phase=None)
    expected = {(trial.id, m.epoch): m for trial in trials for m in store.measurements(trial.id)}
    with opened(http, study) as archive:
        table = parquet.read_table(io.BytesIO(archive.read("measurements.parquet"))).to_pylist()
        lines = list(csv.DictReader(io.StringIO(archive.read("measurements.csv").decode())))
    assert {(row["trial_id"], row["epoch"]) for row in table} == set(expected)
    assert len(table) == len(expected)
    for row, line in zip(table, lines, strict=True):
        m = expected[row["trial_id"], row["epoch"]]
        assert {name: row[name] for name in type(m).model_fields if name != "metrics"} == m.model_dump(
            exclude={"metrics"}
        )
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}


def test_the_number_of_measurements_in_memory_does_not_change_the_files(
    store: Store, play: Play, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = play(body, confirm=5)
    report = report_of(store.study(study), store.arms(study), AnalysisCache(store).study(study))

    def measured() -> tuple[bytes, list[Any]]:
        with tempfile.TemporaryFile() as file:
            bundle_writer.write_bundle(store, report, file)
            with zipfile.ZipFile(file) as archive:
                return archive.read("measurements.csv"), parquet.read_table(
                    io.BytesIO(archive.read("measurements.parquet"))
                ).to_pylist()

    at_once = measured()
    monkeypatch.setattr(bundle_writer, "_ROWS_IN_MEMORY", 5)
    assert measured() == at_once


def test_seeds_hold_those_of_pairs_that_are_added(
    http: httpx.Client, store: Store, body: dict[str, Any]
) -> None:
    search = {"paired": 8, "until": {"max_pairs": 12}}
    study = store.submit(parse_spec(body | {"budget": {"trials_per_arm": 9}, "search": search}))
    with opened(http, study.id) as archive:
        seeds = json.loads(archive.read("seeds.json"))
    assert seeds["pairs"] == [[paired_seed(0, 0, pair) for pair in range(12)]]


def test_seeds_are_those_of_the_trials(http: httpx.Client, store: Store, study: str) -> None:
    with opened(http, study) as archive:
        seeds = json.loads(archive.read("seeds.json"))
    assert seeds == {
        "study": 0,
        "search": [trial_seed(0, 0)],
        "pairs": [[]],
        "confirmation": [confirmation_seed(0, n) for n in range(5)],
    }
    assert {trial.seed for trial in store.every_trial(study, phase="confirmation")} == set(
        seeds["confirmation"]
    )


@pytest.mark.parametrize("begun", [False, True])
def test_an_open_study_has_a_bundle_of_its_results_so_far(
    http: httpx.Client, store: Store, play: Play, body: dict[str, Any], begun: bool
) -> None:
    study = play(body, close=False) if begun else store.submit(parse_spec(body)).id
    with opened(http, study) as archive:
        assert json.loads(archive.read("manifest.json"))["state"] == ("running" if begun else "queued")
        assert parquet.read_table(io.BytesIO(archive.read("measurements.parquet"))).num_rows == (
            12 if begun else 0
        )
        assert archive.read("environment.json") == b"{}\n"


def test_the_environment_is_in_the_bundle(http: httpx.Client, store: Store, body: dict[str, Any]) -> None:
    study = store.submit(parse_spec(body)).id
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    store.run_writer(claim, lease_s=60.0).record_environment({"torch": "2.13.0", "python": "3.11.2"})
    with opened(http, study) as archive:
        assert json.loads(archive.read("environment.json")) == {"python": "3.11.2", "torch": "2.13.0"}
    assert "python 3.11.2, torch 2.13.0." in http.get(f"/v1/studies/{study}/report?format=html").text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "etc-passwd-k3.tangent.zip"),
        ("日本", "study-k3.tangent.zip"),
        ("x" * 200, f"{'x' * 60}-k3.tangent.zip"),
    ],
)
def test_the_file_name_has_no_special_characters(name: str, expected: str) -> None:
    assert bundle_name("k3", name) == expected


def test_the_version_names_the_commit_of_a_checkout(http: httpx.Client, study: str) -> None:
    with opened(http, study) as archive:
        first, second = archive.read("VERSION").decode().splitlines()
    assert re.fullmatch(r"tangent-studies \d+\.\d+\.\d+(, commit [0-9a-f]{40})?", first)
    assert second == "bundle format 3"


def test_formulas_are_escaped_in_csv(http: httpx.Client, store: Store, body: dict[str, Any]) -> None:
    study = store.submit(parse_spec(body)).id
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60.0)
    pending = writer.create([NewTrial("adamp", 0, "default", store.arms(study)[0].defaults, seed=7)])
    writer.start(pending)
    writer.record(
        [
            Report(
                pending[0].id,
                1,
                Measurement(epoch=1, elapsed_s=0.1),
                ended="diverged",
                reason='=HYPERLINK("http://evil")',
            )
        ]
    )
    with opened(http, study) as archive:
        (line,) = csv.DictReader(io.StringIO(archive.read("trials.csv").decode()))
        (row,) = parquet.read_table(io.BytesIO(archive.read("trials.parquet"))).to_pylist()
    assert (line["reason"], row["reason"]) == ('\'=HYPERLINK("http://evil")', '=HYPERLINK("http://evil")')
