"""Writes a study's bundle: a zip file to read the study without Tangent, and to run it again with Tangent.

The same stored study always gives the same bytes, because files have a fixed order and a fixed time.
"""

__all__ = ["write_bundle"]

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, Final

from service.code_version import code_version
from service.dashboard.trials_csv import trials_csv
from service.report.html import html
from service.report.latex import latex
from service.report.manifest import FILES, FORMAT, MANIFEST, FileEntry, Manifest
from service.report.markdown import markdown
from service.report.planned import planned_arm
from service.report.study_report import StudyReport
from studies.resolve import ResolvedStudy
from studies.seeds import confirmation_seeds, paired_seed, trial_seed
from studies.store import Store
from studies.views import StudyView, TrialView

# The earliest time that a zip file can store.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 1 << 20
# Approximate number of measurements held in memory at a time.
_ROWS_IN_MEMORY: Final = 50_000


_README: Final = """\
Study {study_id}: a comparison of optimizers made with Tangent.
When this bundle was written, the study was {state}.

To run it again and check whether the results agree:

    tangent replay FILE.tangent.zip

{files}

Times in seconds are training time. A trial that was trained in a pack with others has its share of the
pack's time. In CSV files an empty value means that there is none, and text that a spreadsheet would read as
a formula starts with an apostrophe.
"""


class _HashedFile:
    """A file of the bundle that records its size and SHA-256 digest while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> int:
        """Write bytes."""
        self._digest.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    @property
    def entry(self) -> FileEntry:
        """The file's entry in the manifest."""
        return FileEntry(bytes=self._bytes, sha256=self._digest.hexdigest())


class _BundleArchive:
    """The zip file of a bundle, with an entry for the manifest per file written."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.entries: dict[str, FileEntry] = {}

    @contextmanager
    def adding(self, name: str) -> Generator[_HashedFile]:
        info = zipfile.ZipInfo(name, _TIME)
        # Parquet is compressed already.
        info.compress_type = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
        info.create_system = 3
        info.external_attr = 0o100644 << 16
        with self._archive.open(info, "w", force_zip64=True) as file:
            hashed = _HashedFile(file)
            yield hashed
        self.entries[name] = hashed.entry

    def text(self, name: str, content: str) -> None:
        with self.adding(name) as file:
            file.write(content.encode("utf-8", "replace"))

    def json(self, name: str, value: Any) -> None:
        self.text(name, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def copy(self, name: str, source: IO[bytes]) -> None:
        source.seek(0)
        with self.adding(name) as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)


def write_bundle(store: Store, report: StudyReport, into: IO[bytes]) -> None:
    """Write a study's bundle into an open file.

    All trials are held in memory, but only some ten thousand measurements at a time.

    Args:
        store: where the trials and their measurements are stored.
        report: the study's report.
        into: an empty binary file.

    Raises:
        StudyNotFound: there is no such study.
    """
    from service.report.columns import trial_table

    study = report.study
    places = {arm.name: arm.position for arm in report.arms}
    # If the study has been extended since, it has trials of arms that this report lacks.
    known = (trial for trial in store.every_trial(study.id, phase=None) if trial.arm in places)
    trials = sorted(known, key=lambda t: (places[t.arm], t.phase != "search", t.number))
    with (
        zipfile.ZipFile(into, "w", compresslevel=6) as archive,
        tempfile.TemporaryFile() as parquet,
        tempfile.TemporaryFile() as text,
    ):
        written = _BundleArchive(archive)
        written.text("README.txt", _readme(study))
        written.json("spec.json", study.spec.model_dump(mode="json"))
        written.json("plan.json", _plan(report).model_dump(mode="json"))
        written.json("analysis.json", report.analysis.model_dump(mode="json"))
        written.text("report.md", markdown(report))
        written.text("report.html", html(report))
        written.text("table.tex", latex(report))
        trial_table(trials, parquet)
        written.copy("trials.parquet", parquet)
        written.text("trials.csv", trials_csv(trials))
        parquet.seek(0)
        parquet.truncate()
        _measurements(store, study, trials, parquet, text)
        written.copy("measurements.parquet", parquet)
        written.copy("measurements.csv", text)
        parquet.seek(0)
        parquet.truncate()
        _layers(store, study, trials, parquet)
        written.copy("layers.parquet", parquet)
        written.text("notes.md", store.notes(study.id).text)
        written.json("environment.json", dict(sorted(study.environment.items())))
        written.json("seeds.json", _seeds(study))
        written.text("VERSION", f"{code_version()}\nbundle format {FORMAT}\n")
        assert list(written.entries) == list(FILES), "every file is listed in FILES"
        manifest = Manifest(
            written_by=code_version(),
            study_id=study.id,
            name=study.name,
            state=study.state,
            created_at=study.created_at,
            files=written.entries,
        )
        written.json(MANIFEST, manifest.model_dump(mode="json"))
    into.flush()


def _measurements(
    store: Store, study: StudyView, trials: list[TrialView], parquet: IO[bytes], text: IO[bytes]
) -> None:
    # pyarrow is slow to import, and only bundles need it.
    from service.report.columns import MeasurementFiles

    chunk_size = max(1, _ROWS_IN_MEMORY // study.epochs)
    metrics = [metric.name for metric in study.workload_card.metrics]
    with MeasurementFiles(parquet, text, metrics=metrics) as files:
        for first in range(0, len(trials), chunk_size):
            chunk = trials[first : first + chunk_size]
            found = store.measurements_of([trial.id for trial in chunk])
            # If the study is still running, it has new measurements since its trials were read.
            files.write(
                (trial, [m for m in found.get(trial.id, ()) if m.epoch <= trial.epochs_done])
                for trial in chunk
            )


def _layers(store: Store, study: StudyView, trials: list[TrialView], parquet: IO[bytes]) -> None:
    from service.report.columns import LayerFile

    measured = [trial for trial in trials if trial.phase == "confirmation" or trial.origin == "default"]
    # A model may have a hundred layers.
    chunk_size = max(1, _ROWS_IN_MEMORY // study.epochs // 100)
    with LayerFile(parquet) as file:
        for first in range(0, len(measured), chunk_size):
            chunk = measured[first : first + chunk_size]
            found = store.layers_of(study.id, [trial.id for trial in chunk])
            for trial in chunk:
                if trial.id in found:
                    file.write(trial, found[trial.id])


def _plan(report: StudyReport) -> ResolvedStudy:
    study = report.study
    return ResolvedStudy(
        workload=study.workload_card,
        arms=tuple(planned_arm(arm, replicates=study.spec.budget.replicates) for arm in report.arms),
        epochs=study.epochs,
        interval_steps=study.interval_steps,
        batch_size=study.batch_size,
    )


def _seeds(study: StudyView) -> dict[str, Any]:
    spec = study.spec
    most = spec.search.paired if spec.search.until is None else spec.search.until.max_pairs
    replicates, pairs = range(spec.budget.replicates), range(most)
    return {
        "study": spec.seed,
        "search": [trial_seed(spec.seed, replicate) for replicate in replicates],
        "pairs": [[paired_seed(spec.seed, replicate, pair) for pair in pairs] for replicate in replicates],
        "confirmation": list(confirmation_seeds(spec.seed, spec.confirmation.seeds)),
    }


def _readme(study: StudyView) -> str:
    width = max(len(name) for name in (*FILES, MANIFEST))
    descriptions = FILES | {MANIFEST: "The size and SHA-256 digest of every other file."}
    files = "\n".join(f"{name:<{width}}  {description}" for name, description in descriptions.items())
    return _README.format(study_id=study.id, state=study.state.value, files=files)
