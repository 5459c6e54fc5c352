"""What a bundle is: the names of its files, and the manifest that says what each of them must be."""

__all__ = ["FILES", "FORMAT", "MANIFEST", "FileEntry", "Manifest", "bundle_name"]

import re
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.report.code_version import CodeVersion
from studies.states import StudyState

FORMAT: Final = 1
"""Counts the changes after which an older Tangent could not read a bundle."""

MANIFEST: Final = "manifest.json"

FILES: Final[dict[str, str]] = {
    "README.txt": "What this is, and what each file is.",
    "spec.json": (
        "The study as it finally stood, extensions included; `tangent submit` takes "
        "it, `tangent replay` submits it."
    ),
    "plan.json": (
        "What the spec came to with the cards of its day: every arm's whole search space, defaults, "
        "trials and card; the workload's card."
    ),
    "analysis.json": (
        "What the record says of the arms: verdict, confirmed means, pairs, curves, checks, sensitivity."
    ),
    "report.md": "The report in Markdown.",
    "report.html": "The report with its charts, as one page that needs nothing else.",
    "table.tex": "The result as a LaTeX table (booktabs).",
    "trials.parquet": (
        "Every trial, search and confirmation; a hyperparameter NAME is the column `parameters.NAME`."
    ),
    "trials.csv": "The same as text; hyperparameters follow the fixed columns under their own names.",
    "measurements.parquet": (
        "What every trial measured at the end of every epoch; empty where it "
        "was not finite or does not apply."
    ),
    "measurements.csv": "The same as text.",
    "environment.json": (
        "What trained the study: versions of software, processors, as its runs recorded them."
    ),
    "seeds.json": (
        "The study's seed and what derives from it: the seed of each replicate's "
        "trials, and of each confirmation run."
    ),
    "VERSION": "The version of Tangent that wrote this, with its commit where that is known.",
}
"""Every file of a bundle but the manifest, with what it is, in the order in which they lie in it."""


class FileEntry(BaseModel):
    """What a file of the bundle must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(ge=0, description="Its size.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its content, in hexadecimal.")


class Manifest(BaseModel):
    """What a bundle holds. It tells damage and mix-ups; whoever forges a file can forge it too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["tangent-bundle"] = Field(default="tangent-bundle", description="Always the same.")
    format: int = Field(default=FORMAT, ge=1, description="Version of the format.")
    written_by: CodeVersion = Field(description="What wrote it.")
    study_id: str = Field(description="Id that the study had.")
    name: str = Field(description="Its title.")
    state: StudyState = Field(description="Where it stood.")
    created_at: datetime = Field(description="When it was submitted.")
    files: dict[str, FileEntry] = Field(description="Every file but this one.")


def bundle_name(study_id: str, name: str) -> str:
    """Return the name of a study's bundle as a file, `NAME-ID.tangent.zip`.

    NAME is the study's title in small letters, digits and dashes.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return f"{slug or 'study'}-{study_id}.tangent.zip"
