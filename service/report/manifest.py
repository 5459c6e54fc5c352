"""The files of a bundle and its manifest, with the size and digest of each file."""

__all__ = ["FILES", "FORMAT", "MANIFEST", "FileEntry", "Manifest", "bundle_name", "files_of"]

import re
from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from service.code_version import CodeVersion
from studies.frozen_model import FrozenModel
from studies.states import StudyState

FORMAT: Final = 3
"""Version of the format; raised by each change that older versions of Tangent cannot read."""

MANIFEST: Final = "manifest.json"

FILES: Final[dict[str, str]] = {
    "README.txt": "What this bundle is, and what each file contains.",
    "spec.json": (
        "The study's spec with all extensions; `tangent submit` accepts it, and `tangent replay` submits it."
    ),
    "plan.json": (
        "The spec resolved with the cards of its time: every arm's full search space, defaults, number of "
        "trials and card; the workload's card."
    ),
    "analysis.json": (
        "The analysis: verdict, confirmed means, pairs of arms, budget curves, checks, sensitivity."
    ),
    "report.md": "The report in Markdown.",
    "report.html": "The report with its charts, as one self-contained page.",
    "table.tex": "The results as a LaTeX table (booktabs).",
    "trials.parquet": (
        "Every trial of the search and every confirmation run; hyperparameter NAME is the column "
        "`parameters.NAME`."
    ),
    "trials.csv": "The same as CSV; hyperparameters follow the fixed columns under their own names.",
    "measurements.parquet": (
        "The measurements of every trial after every epoch; empty if a value was not finite or does not "
        "apply."
    ),
    "measurements.csv": "The same as CSV.",
    "layers.parquet": (
        "What each layer (a weight of two or more dimensions) measured after every epoch of a confirmation "
        "run or a trial of the defaults; epoch 0 is before the first step."
    ),
    "notes.md": "The study's notes in Markdown, without their history; empty if it has none.",
    "environment.json": (
        "The software versions and processors that trained the study, as recorded by its runs."
    ),
    "seeds.json": (
        "The study's seed and the seeds derived from it: one per replicate of the search, one per pair of "
        "each replicate, and one per confirmation run."
    ),
    "VERSION": "The version of Tangent that wrote this bundle, with its commit if known.",
}
"""Every file of a bundle except the manifest, in the order of the archive, with its description."""

_SINCE: Final = {"layers.parquet": 2, "notes.md": 3}
"""The first format of each file that is not in all of them."""


def files_of(version: int) -> frozenset[str]:
    """Return the files that a bundle of a format has, except the manifest."""
    return frozenset(name for name in FILES if _SINCE.get(name, 1) <= version)


class FileEntry(FrozenModel):
    """The expected size and digest of a file."""

    bytes: int = Field(ge=0, description="Size of the file.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its content, in hexadecimal.")


class Manifest(FrozenModel):
    """The manifest of a bundle.

    It detects damage and mix-ups. It is not a signature: it can be forged along with a file.
    """

    kind: Literal["tangent-bundle"] = Field(
        default="tangent-bundle", description="Constant that identifies the format."
    )
    format: int = Field(default=FORMAT, ge=1, description="Version of the format.")
    written_by: CodeVersion = Field(description="Version of Tangent that wrote the bundle.")
    study_id: str = Field(description="Id of the study.")
    name: str = Field(description="Name of the study.")
    state: StudyState = Field(description="State of the study.")
    created_at: datetime = Field(description="When the study was submitted.")
    files: dict[str, FileEntry] = Field(description="Every file except the manifest.")


def bundle_name(study_id: str, name: str) -> str:
    """Return the file name of a study's bundle, `NAME-ID.tangent.zip`.

    NAME is the study's name in lower-case letters, digits and dashes.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return f"{slug or 'study'}-{study_id}.tangent.zip"
