"""Writes a study's bundle.

A zip file with all that is needed to read the study without Tangent, and to run it again with it.

The same record gives the same bytes: files in a fixed order, under a fixed time.
"""

__all__ = ["write_bundle"]

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, Final

from service.dashboard.trials_csv import trials_csv
from service.report.code_version import code_version
from service.report.html import html
from service.report.latex import latex
from service.report.manifest import FILES, FORMAT, MANIFEST, FileEntry, Manifest
from service.report.markdown import markdown
from service.report.planned import planned
from service.report.study_report import StudyReport
from studies.resolve import ResolvedStudy
from studies.seeds import confirmation_seeds, trial_seed
from studies.store import Store
from studies.views import StudyView, TrialView

# The first instant that a zip file can name.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK: Final = 1 << 20
# Rows of measurements that are held at a time, roughly.
_ROWS: Final = 50_000


class _Counted:
    """A file in the zip that is being written; knows its size and digest afterwards."""

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
        """What the manifest says of it."""
        return FileEntry(bytes=self._bytes, sha256=self._digest.hexdigest())


class _Zip:
    """The bundle in the making."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.entries: dict[str, FileEntry] = {}

    @contextmanager
    def adding(self, name: str) -> Generator[_Counted]:
        info = zipfile.ZipInfo(name, _TIME)
        # Parquet is compressed already.
        info.compress_type = zipfile.ZIP_STORED if name.endswith(".parquet") else zipfile.ZIP_DEFLATED
        info.create_system = 3
        info.external_attr = 0o100644 << 16
        with self._archive.open(info, "w", force_zip64=True) as file:
            counted = _Counted(file)
            yield counted
        self.entries[name] = counted.entry

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

    Trials are held in memory, measurements only some ten thousand at a time.

    Args:
        store: where the trials and their measurements stand.
        report: the study's report.
        into: an empty binary file.

    Raises:
        StudyNotFound: there is no such study.
    """
    from service.report.columns import trial_table

    study = report.study
    places = {arm.name: arm.position for arm in report.arms}
    # A study that was extended meanwhile has trials of arms that this report does not know yet.
    known = (trial for trial in store.every_trial(study.id, phase=None) if trial.arm in places)
    trials = sorted(known, key=lambda t: (places[t.arm], t.phase != "search", t.number))
    with (
        zipfile.ZipFile(into, "w", compresslevel=6) as archive,
        tempfile.TemporaryFile() as parquet,
        tempfile.TemporaryFile() as text,
    ):
        written = _Zip(archive)
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
        written.json("environment.json", dict(sorted(study.environment.items())))
        written.json("seeds.json", _seeds(study))
        written.text("VERSION", f"{code_version()}\nbundle format {FORMAT}\n")
        assert list(written.entries) == list(FILES), "every file is explained"
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

    at_a_time = max(1, _ROWS // study.epochs)
    with MeasurementFiles(parquet, text) as files:
        for first in range(0, len(trials), at_a_time):
            some = trials[first : first + at_a_time]
            found = store.measurements_of([trial.id for trial in some])
            # A study that is still trained has moved on since its trials were read.
            files.write(
                (trial, [m for m in found.get(trial.id, ()) if m.epoch <= trial.epochs_done])
                for trial in some
            )


def _plan(report: StudyReport) -> ResolvedStudy:
    study = report.study
    return ResolvedStudy(
        workload=study.workload_card,
        arms=tuple(planned(arm, replicates=study.spec.budget.replicates) for arm in report.arms),
        epochs=study.epochs,
        batch_size=study.batch_size,
    )


def _seeds(study: StudyView) -> dict[str, Any]:
    spec = study.spec
    return {
        "study": spec.seed,
        "search": [trial_seed(spec.seed, replicate) for replicate in range(spec.budget.replicates)],
        "confirmation": list(confirmation_seeds(spec.seed, spec.confirmation.seeds)),
    }


def _readme(study: StudyView) -> str:
    wide = max(len(name) for name in (*FILES, MANIFEST))
    lines = [
        f"{name:<{wide}}  {said}"
        for name, said in (*FILES.items(), (MANIFEST, "Size and SHA-256 of every other file."))
    ]
    return "\n".join(
        (
            (
                f"Study {study.id}, a comparison of optimizers made with Tangent; it was "
                f"{study.state.value} when this was written."
            ),
            "",
            "To run it again and see whether it comes out the same:",
            "",
            "    tangent replay FILE.tangent.zip",
            "",
            *lines,
            "",
            (
                "Times in seconds are training time; where trials were trained together, each has its "
                "share. In CSV files a value is empty where"
            ),
            (
                "there is none, and text that a spreadsheet would take for a "
                "formula has an apostrophe before it."
            ),
            "",
        )
    )
