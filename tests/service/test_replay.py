"""`tangent report`, `export` and `replay` against a real service; only valid bundles can be replayed."""

import json
import shutil
import threading
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.analysis_cache import AnalysisCache
from service.cli.app import app
from service.cli.reports import DISAGREES
from service.report.bundle_reader import BundleInvalid, open_bundle
from service.report.bundle_writer import write_bundle
from service.report.manifest import FORMAT, files_of
from service.report.study_report import report_of
from studies.catalog import Catalog
from studies.extension import parse_extension
from studies.seeds import confirmation_seed
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState
from studies.store import RunWriter, Store
from studies.study_filter import StudyFilter
from studies.trials import Measurement, NewTrial, Report
from studies.views import StudyView

__all__: list[str] = []

Run = Callable[..., Result]


def play(
    store: Store, study: StudyView, *, turned: bool = False, outcome: StudyMove = StudyMove.FINISH
) -> None:
    """Run the queued study: later arms are better, or worse if `turned`."""
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    assert claim.study_id == study.id
    writer = store.run_writer(claim, lease_s=60.0)
    for arm in store.arms(study.id):
        trials = [(n, arm.defaults | {"lr": 0.001 * (n + 1)}) for n in range(3)]
        _train(
            writer,
            study,
            [NewTrial(arm.name, n, "sampled" if n else "default", p, seed=7) for n, p in trials],
            better=0.01 * arm.position,
        )
        again = [(trials[of], index) for index in range(5) for of in (2, 0)]
        runs = [
            NewTrial(
                arm.name,
                k,
                "sampled" if n else "default",
                p,
                seed=confirmation_seed(0, index),
                phase="confirmation",
                confirms=n,
            )
            for k, ((n, p), index) in enumerate(again)
        ]
        _train(writer, study, runs, better=0.1 * (-arm.position if turned else arm.position))
    writer.report_progress()
    writer.close(outcome)


def _train(writer: RunWriter, study: StudyView, new: list[NewTrial], *, better: float) -> None:
    pending = writer.create(new)
    writer.start(pending)
    for trial in pending:
        value = 0.5 + better + 0.05 * (trial.parameters["lr"] == 0.003) + 0.001 * (trial.seed % 7)
        for epoch in range(1, study.epochs + 1):
            ended = (
                {"ended": "completed", "value": value, "best_epoch": epoch, "test_value": value - 0.01}
                if epoch == study.epochs
                else {}
            )
            writer.record(
                [
                    Report(
                        trial.id,
                        1,
                        Measurement(epoch=epoch, elapsed_s=0.1 * epoch, validation_metric=value),
                        **ended,
                    )
                ]
            )


@pytest.fixture
def original(store: Store, body: dict[str, Any]) -> StudyView:
    """A completed study with confirmation runs."""
    study = store.submit(parse_spec(body | {"name": "First", "suite": "small"}))
    play(store, study)
    return store.study(study.id)


@pytest.fixture
def bundle(run: Run, original: StudyView, tmp_path: Path) -> Path:
    """The bundle of `original`."""
    path = tmp_path / "first.tangent.zip"
    result = run("export", original.id, "-o", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    return path


@contextmanager
def dispatching(store: Store, **given: Any) -> Generator[None]:
    """Run the next submitted study in another thread."""
    is_over = threading.Event()

    def wait_and_play() -> None:
        while not is_over.wait(0.02):
            waiting = store.studies(StudyFilter(state=StudyState.QUEUED)).items
            if waiting:
                play(store, store.study(waiting[0].id), **given)
                return

    thread = threading.Thread(target=wait_and_play)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("form", ["markdown", "html", "latex", "json"])
def test_a_report_equals_that_of_the_api(
    run: Run, original: StudyView, live: str, tmp_path: Path, form: str
) -> None:
    expected = httpx.get(f"{live}/v1/studies/{original.id}/report?format={form}", timeout=60).text
    option = ("--json",) if form == "json" else ("--format", form)
    shown = run("report", original.id, *option)
    assert (shown.exit_code, shown.stdout) == (0, expected.rstrip("\n") + "\n")
    written = run("report", "last", *option, "-o", str(tmp_path / "report"))
    assert (written.exit_code, (tmp_path / "report").read_text(encoding="utf-8")) == (0, expected)


def test_a_bundle_is_named_after_its_study(
    run: Run, original: StudyView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("export", original.id).stdout == f"first-{original.id}.tangent.zip\n"
    assert zipfile.is_zipfile(tmp_path / f"first-{original.id}.tangent.zip")


def test_files_are_overwritten_only_with_force(run: Run, original: StudyView, bundle: Path) -> None:
    before = bundle.stat().st_ino
    refused = run("export", original.id, "-o", str(bundle))
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert bundle.stat().st_ino == before
    assert run("export", original.id, "-o", str(bundle), "--force").exit_code == 0
    assert bundle.stat().st_ino != before


def test_a_failed_export_leaves_no_file_behind(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    assert run("export", "nothinga", "-o", str(folder / "x.zip")).exit_code == 1
    assert list(folder.iterdir()) == []
    refused = run("report", "nothinga", "-o", str(tmp_path / "no" / "folder"))
    assert refused.exit_code == 1
    assert "Traceback" not in refused.stderr


def test_a_file_that_cannot_be_written_is_a_one_line_error(
    run: Run, original: StudyView, tmp_path: Path
) -> None:
    refused = run("export", original.id, "-o", str(tmp_path / "no" / "folder.zip"))
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"error: cannot write {tmp_path}/no/folder.zip: no such file or directory\n",
    )


def test_a_replay_with_the_same_results_agrees(
    run: Run, store: Store, original: StudyView, bundle: Path
) -> None:
    with dispatching(store):
        result = run("replay", str(bundle))
    assert result.exit_code == 0, result.output
    replayed = store.study(store.studies().items[0].id)
    assert replayed.id != original.id
    assert (replayed.name, replayed.suite, replayed.state) == ("First (replay)", None, StudyState.COMPLETED)
    assert replayed.spec == original.spec.model_copy(update={"name": "First (replay)", "suite": None})


def test_a_study_that_was_stopped_among_its_pairs_and_extended_can_be_replayed(
    run: Run, store: Store, body: dict[str, Any], tmp_path: Path
) -> None:
    pairs = {"budget": {"trials_per_arm": 9, "epochs": 1}, "search": {"paired": 8}}
    stopped = store.submit(parse_spec(body | pairs))
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    store.run_writer(claim, lease_s=60.0).close(StudyMove.FINISH)
    play(store, store.extend(stopped.id, parse_extension({"seeds": 6})))
    path = tmp_path / "stopped.tangent.zip"
    assert run("export", stopped.id, "-o", str(path)).exit_code == 0
    begun = run("replay", str(path), "--no-wait")
    assert begun.exit_code == 0, begun.stderr
    spec = store.study(begun.stdout.strip()).spec
    assert (spec.budget.trials_per_arm, spec.search.paired) == (1, 0)


def test_a_replay_with_reversed_results_disagrees(run: Run, store: Store, bundle: Path) -> None:
    with dispatching(store, turned=True):
        result = run("replay", str(bundle), "--json")
    assert result.exit_code == DISAGREES == 3
    printed = json.loads(result.stdout)
    assert printed["study"] == store.studies().items[0].id
    assert not printed["agreement"]["agrees"]
    assert printed["agreement"]["word"] in {"partly", "disagrees"}


def test_a_replay_can_be_submitted_now_and_compared_later(run: Run, store: Store, bundle: Path) -> None:
    begun = run("replay", str(bundle), "--no-wait")
    study_id = begun.stdout.strip()
    assert begun.exit_code == 0
    assert f"tangent replay {bundle} --against {study_id}" in begun.stderr
    play(store, store.study(study_id))
    compared = run("replay", str(bundle), "--against", study_id, "--json")
    assert compared.exit_code == 0, compared.output
    assert json.loads(compared.stdout)["agreement"]["word"] == "identical"
    assert store.studies().total == 2


def test_a_failed_replay_is_not_compared(run: Run, store: Store, bundle: Path) -> None:
    with dispatching(store, outcome=StudyMove.FAIL):
        result = run("replay", str(bundle), "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: the replay {store.studies().items[0].id} is failed")


def test_a_replay_notes_changed_cards(run: Run, store: Store, bundle: Path, catalog: Catalog) -> None:
    card = catalog.optimizers["adamw"].model_copy(update={"description": "Mended."})
    store.announce(
        catalog.model_copy(update={"optimizers": catalog.optimizers | {"adamw": card}}), dispatcher="here"
    )
    begun = run("replay", str(bundle), "--no-wait")
    assert begun.stderr.startswith("note: arm adamw ")


def test_the_bundle_of_an_open_study_cannot_be_replayed(
    run: Run, store: Store, body: dict[str, Any], tmp_path: Path
) -> None:
    study = store.submit(parse_spec(body))
    path = tmp_path / "open.zip"
    exported = run("export", study.id, "-o", str(path))
    assert exported.exit_code == 0
    assert exported.stderr.startswith(f"{study.id} is still queued")
    refused = run("replay", str(path))
    assert refused.exit_code == 2
    assert "its study was queued" in refused.stderr


def rewritten(
    path: Path,
    changed: dict[str, bytes | None] | None = None,
    *,
    added: dict[str, bytes] | None = None,
    packed: int = 8,
) -> Path:
    """Return a copy of a bundle with changed, removed (None) or added files and another compression."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()} | (changed or {})
    other = path.with_name("other.zip")
    with zipfile.ZipFile(other, "w", packed) as archive, warnings.catch_warnings():
        # zipfile warns about duplicate names.
        warnings.simplefilter("ignore", UserWarning)
        for name, content in [*files.items(), *(added or {}).items()]:
            if content is not None:
                archive.writestr(name, content)
    return other


def file_of(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def cut(path: Path) -> Path:
    return _put(path, path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[content.index(b"spec.json") + 100] ^= 0xFF
    return _put(path, bytes(content))


def _put(path: Path, content: bytes) -> Path:
    other = path.with_name("other.zip")
    other.write_bytes(content)
    return other


def of_format(path: Path, number: int) -> Path:
    manifest = json.loads(file_of(path, "manifest.json")) | {"format": number}
    return rewritten(path, {"manifest.json": json.dumps(manifest).encode()})


def as_format(path: Path, number: int) -> Path:
    """Return the bundle as versions of Tangent that wrote this format did."""
    manifest = json.loads(file_of(path, "manifest.json")) | {"format": number}
    later = [name for name in manifest["files"] if name not in files_of(number)]
    for name in later:
        del manifest["files"][name]
    return rewritten(path, {**dict.fromkeys(later), "manifest.json": json.dumps(manifest).encode()})


def forged(path: Path, name: str, content: bytes) -> Path:
    """Return a bundle in which a file was changed together with its manifest entry."""
    manifest = json.loads(file_of(path, "manifest.json"))
    manifest["files"][name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    return rewritten(path, {name: content, "manifest.json": json.dumps(manifest).encode()})


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (cut, "is not a bundle, or is damaged"),
    "a flipped bit": (flipped, "damaged"),
    "empty": (lambda path: _put(path, b""), "is not a bundle, or is damaged"),
    "text": (lambda path: _put(path, b"hello"), "is not a bundle, or is damaged"),
    "missing": (lambda path: path.with_name("none.zip"), "cannot read"),
    "a folder": (lambda path: path.parent, "cannot read"),
    "another spec": (
        lambda path: rewritten(path, {"spec.json": b"{}"}),
        "spec.json does not match manifest.json",
    ),
    "another analysis": (
        lambda path: rewritten(path, {"analysis.json": b"{}"}),
        "analysis.json does not match manifest.json",
    ),
    "no spec": (lambda path: rewritten(path, {"spec.json": None}), "lacks spec.json"),
    "no manifest": (lambda path: rewritten(path, {"manifest.json": None}), "lacks manifest.json"),
    "a path out of it": (
        lambda path: rewritten(path, added={"../../evil.sh": b"id"}),
        "'../../evil.sh'",
    ),
    "an absolute path": (
        lambda path: rewritten(path, added={"/etc/evil": b"id"}),
        "'/etc/evil'",
    ),
    "a name twice": (lambda path: rewritten(path, added={"spec.json": b"{}"}), "spec.json twice"),
    "a bomb": (
        lambda path: rewritten(path, {"analysis.json": bytes(64 << 20)}),
        "analysis.json is larger than 8 MiB",
    ),
    "an analysis of zeros": (
        lambda path: forged(path, "analysis.json", b"[" + b"0," * 3_000_000 + b"0]"),
        "its analysis.json has more than 250,000 ",
    ),
    "an analysis of errors": (
        lambda path: forged(path, "analysis.json", b'{"pairs": [' + b"0," * 200_000 + b"0]}"),
        "values of its StudyAnalysis are not valid",
    ),
    "a million entries": (
        lambda path: rewritten(path, added={f"{n:040}": b"" for n in range(15_000)}),
        "its directory is too large",
    ),
    "packed otherwise": (
        lambda path: rewritten(path, packed=zipfile.ZIP_LZMA),
        "README.txt is encrypted, or compressed in",
    ),
    "a later format": (
        lambda path: of_format(path, FORMAT + 1),
        f"format {FORMAT + 1}, but this version reads formats 1 to {FORMAT}",
    ),
    "no manifest's content": (
        lambda path: rewritten(path, {"manifest.json": b"[1]"}),
        "its manifest.json is not valid",
    ),
    "a manifest of other files": (
        lambda path: rewritten(
            path, {"manifest.json": file_of(path, "manifest.json").replace(b'"VERSION"', b'"ELSE"')}
        ),
        "does not list the files of a bundle",
    ),
    "a spec of another version": (
        lambda path: forged(
            path, "spec.json", file_of(path, "spec.json").replace(b'"sampler"', b'"chooser"')
        ),
        "cannot be read by this version",
    ),
    "a spec without end": (
        lambda path: forged(path, "spec.json", b"[" * 40_000),
        "spec.json is nested more than 32 levels deep",
    ),
    "an analysis of another version": (
        lambda path: forged(path, "analysis.json", b"{}"),
        "cannot be read by this version",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path, catalog: Catalog) -> Path:
    """A valid bundle, created once per module."""
    folder = tmp_path_factory.mktemp("sound")
    shutil.copy(fresh_database, folder / "tangent.db")
    store = Store.open(f"sqlite:///{folder}/tangent.db", migrate=False)
    store.announce(catalog, dispatcher="here")
    study = store.submit(
        parse_spec(
            {
                "workload": "digits-mlp",
                "arms": ["adamp", "adamw"],
                "budget": {"trials_per_arm": 3, "epochs": 2},
            }
        )
    )
    play(store, study)
    with (folder / "sound.zip").open("xb") as file:
        write_bundle(
            store,
            report_of(store.study(study.id), store.arms(study.id), AnalysisCache(store).study(study.id)),
            file,
        )
    store.close()
    return folder / "sound.zip"


@pytest.mark.parametrize("number", [1, 2])
def test_a_bundle_of_an_older_format_is_still_read(sound: Path, number: int) -> None:
    assert open_bundle(as_format(sound, number)).spec == open_bundle(sound).spec


def test_a_hostile_bundle_takes_little_memory(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(sound, tmp_path))
    zeros = b'{"pairs": [' + b"0," * 30_000_000 + b"0]}"
    hostile = forged(copy, "analysis.json", zeros)
    tracemalloc.start()
    try:
        with pytest.raises(BundleInvalid):
            open_bundle(hostile)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_files_that_a_replay_does_not_need_are_not_read(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(sound, tmp_path))
    assert open_bundle(rewritten(copy, {"trials.parquet": b"forged"})) == open_bundle(sound)


def test_text_of_a_bundle_cannot_control_the_terminal(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(sound, tmp_path))
    hostile = forged(copy, "analysis.json", b"{}")
    manifest = json.loads(file_of(hostile, "manifest.json"))
    manifest["written_by"]["version"] = "1\x1b]0;owned\x07\x9b2J\u202e"
    hostile = rewritten(hostile, {"manifest.json": json.dumps(manifest).encode()})
    result = CliRunner(env={"TANGENT_URL": "http://127.0.0.1:9"}).invoke(app, ["replay", str(hostile)])
    assert result.exit_code == 2
    assert "owned" in result.stderr
    assert result.stderr.rstrip("\n").isprintable()


def test_a_valid_bundle_is_opened(sound: Path) -> None:
    found = open_bundle(sound)
    assert found.manifest.state is StudyState.COMPLETED
    assert (
        [arm.name for arm in found.plan.arms]
        == list(found.analysis.arms)
        == [arm.name for arm in found.spec.arms]
    )


def test_the_study_of_an_older_bundle_is_not_paired(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(sound, tmp_path))
    spec = json.loads(file_of(copy, "spec.json"))
    del spec["search"]
    old = forged(copy, "spec.json", json.dumps(spec).encode())
    assert open_bundle(old).spec.search.paired == 0


@pytest.mark.parametrize("wrong", BAD)
def test_an_invalid_bundle_is_a_one_line_error_before_any_request(
    sound: Path, tmp_path: Path, wrong: str
) -> None:
    make, expected = BAD[wrong]
    copy = Path(shutil.copy(sound, tmp_path))
    result = CliRunner(env={"TANGENT_URL": "http://127.0.0.1:9"}).invoke(app, ["replay", str(make(copy))])
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert expected in line
