"""Reads what a replay needs of a study's bundle, which may come from an untrusted source.

Four files of the bundle are read: its manifest, spec, plan and analysis. Each is checked before it is parsed,
and nothing is unpacked to disk.
"""

__all__ = ["BundleInvalid", "OpenedBundle", "open_bundle"]

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError

from service.json_limits import check_limits
from service.report.manifest import FILES, FORMAT, MANIFEST, FileEntry, Manifest, files_of
from studies.analysis.views import StudyAnalysis
from studies.errors import SpecInvalid, TangentError
from studies.formatting import listed, plural
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec, parse_spec

_MAX_DEPTH: Final = 32
_MAX_READ: Final = 1 << 20
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True)
class _Limit:
    """Limits of one file: its size, and the fields and entries of lists in it."""

    mib: int
    values: int


_LIMITS: Final[dict[str, _Limit]] = {
    MANIFEST: _Limit(mib=1, values=1_000),
    "spec.json": _Limit(mib=4, values=50_000),
    "plan.json": _Limit(mib=8, values=200_000),
    # An analysis of 64 arms has 2 MiB and about 150,000 values. Each invalid one takes 750 bytes of memory.
    "analysis.json": _Limit(mib=8, values=250_000),
}


class _FormatOnly(BaseModel):
    """The one field that every version of the manifest has."""

    format: int


class BundleInvalid(TangentError):
    """A file is not a bundle, or cannot be trusted or read."""


class _SmallReads(io.BufferedReader):
    """A file that is read in small pieces, so that a forged directory of a million entries is not loaded."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_READ:
            raise zipfile.BadZipFile("its directory is too large")
        return super().read(size)


@dataclass(frozen=True)
class OpenedBundle:
    """The content of a bundle, from files that match its manifest.

    Attributes:
        manifest: the manifest.
        spec: the study's spec, with all extensions.
        plan: the study that was resolved from the spec and the cards of its time.
        analysis: the study's analysis.
    """

    manifest: Manifest
    spec: StudySpec
    plan: ResolvedStudy
    analysis: StudyAnalysis


def open_bundle(path: Path) -> OpenedBundle:
    """Return a bundle's content.

    Raises:
        BundleInvalid: the file is not a bundle, is damaged, was changed, is dangerous, or has a version that
            this version of Tangent cannot read.
    """
    try:
        with _SmallReads(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            return _read(path, archive)
    except OSError as error:
        raise BundleInvalid(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        # zipfile raises RuntimeError for encryption, NotImplementedError for an unknown compression method,
        # and ValueError for a bad offset.
        raise BundleInvalid(
            f"{path} is not a bundle, or is damaged: {_reason(error)}; export the study again"
        ) from None


def _reason(error: Exception) -> str:
    message = str(error) or "the file ends too early"
    return f"{message[:1].lower()}{message[1:]}"


def _read(path: Path, archive: zipfile.ZipFile) -> OpenedBundle:
    infos = _checked_names(path, archive)
    manifest = _manifest(path, _content(path, archive, infos[MANIFEST]))
    missing = [name for name in manifest.files if name not in infos]
    if missing:
        raise BundleInvalid(f"{path} is not a complete bundle: it lacks {listed(missing, most=3)}")
    spec, plan, analysis = (
        _matching(path, archive, infos[name], manifest.files[name])
        for name in ("spec.json", "plan.json", "analysis.json")
    )
    try:
        return OpenedBundle(
            manifest,
            spec=parse_spec(_with_search(json.loads(spec))),
            plan=ResolvedStudy.model_validate_json(plan),
            analysis=StudyAnalysis.model_validate_json(analysis),
        )
    except ValidationError as error:
        # The text of the error may be thousands of lines.
        reason = f"{plural(error.error_count(), 'value')} of its {error.title} are not valid"
    except (SpecInvalid, ValueError) as error:
        reason = str(error).splitlines()[0]
    raise BundleInvalid(
        f"{path} was written by {manifest.written_by} and cannot be read by this version: {reason}"
    )


def _with_search(spec: Any) -> Any:
    """Return a spec as it was meant: one that says nothing of its search is older than paired trials."""
    return {"search": {"paired": 0}, **cast("dict[str, Any]", spec)} if isinstance(spec, dict) else spec


def _checked_names(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries by name, after checking their names and compression."""
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename not in FILES and info.filename != MANIFEST:
            raise BundleInvalid(
                f"{path} is not a bundle, or was changed: a bundle has no file {info.filename[:100]!r}"
            )
        if info.filename in infos:
            raise BundleInvalid(f"{path} was changed: it contains {info.filename} twice")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in {
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        }:
            raise BundleInvalid(
                f"{path} was changed: {info.filename} is encrypted, or compressed in an unexpected way"
            )
        infos[info.filename] = info
    if MANIFEST not in infos:
        raise BundleInvalid(f"{path} is not a complete bundle: it lacks {MANIFEST}")
    return infos


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        written = _FormatOnly.model_validate_json(content).format
        if not 1 <= written <= FORMAT:
            raise BundleInvalid(
                f"{path} has bundle format {written}, but this version reads formats 1 to {FORMAT}; use the "
                "version of Tangent named in its file VERSION"
            )
        manifest = Manifest.model_validate_json(content)
    except ValueError:
        raise BundleInvalid(f"{path} is not a bundle: its {MANIFEST} is not valid") from None
    if frozenset(manifest.files) != files_of(manifest.format):
        raise BundleInvalid(f"{path} was changed: its {MANIFEST} does not list the files of a bundle")
    return manifest


def _matching(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: FileEntry) -> bytes:
    """Return a file's content, after comparing its size and digest with the manifest."""
    content = _content(path, archive, info)
    if len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleInvalid(
            f"{path} is damaged or was changed: {info.filename} does not match {MANIFEST}; export the study "
            "again"
        )
    return content


def _content(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a JSON file's content, after checking its limits."""
    limit = _LIMITS[info.filename]
    content = bytearray()
    with archive.open(info) as file:
        while piece := file.read(_MAX_READ):
            content += piece
            if len(content) > limit.mib << 20:
                raise BundleInvalid(
                    f"{path} is not a bundle: its {info.filename} is larger than {limit.mib} MiB"
                )
    try:
        check_limits(content, values=limit.values, depth=_MAX_DEPTH)
    except ValueError as error:
        raise BundleInvalid(f"{path} is not a bundle: its {info.filename} {error}") from None
    return bytes(content)
