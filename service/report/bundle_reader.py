"""Reads a study's bundle and believes none of it.

Every file is checked before any is used, and nothing is ever unpacked to the disk.
"""

__all__ = ["BundleInvalid", "OpenedBundle", "open_bundle"]

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from service.report.manifest import FILES, FORMAT, MANIFEST, FileEntry, Manifest
from studies.analysis.views import StudyAnalysis
from studies.errors import SpecInvalid, TangentError
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec, parse_spec

_CHUNK: Final = 1 << 20
_MOST_READ: Final = 64 << 20
"""What is read as a whole, spec, plan, analysis and manifest, is at most so large."""
_MOST_BYTES: Final = 16 << 30
"""Nobody's study is larger, unpacked; whoever says so means to keep this machine busy."""
_MOST_RATIO: Final = 200
"""Tables of numbers shrink to a third, text to a tenth."""
_FREE_OF_RATIO: Final = 1 << 20
_ENCRYPTED: Final = 0x1


class _Stamp(BaseModel):
    """What every format of the manifest has."""

    format: int


class BundleInvalid(TangentError):
    """A file is no bundle, or one that cannot be trusted or read."""


@dataclass(frozen=True)
class OpenedBundle:
    """What a bundle holds, once every file in it has proved to be what the manifest says.

    Attributes:
        manifest: what it is the bundle of.
        spec: the study as it finally stood.
        plan: what that came to.
        analysis: what was found.
    """

    manifest: Manifest
    spec: StudySpec
    plan: ResolvedStudy
    analysis: StudyAnalysis


def open_bundle(path: Path) -> OpenedBundle:
    """Return a bundle's content.

    Raises:
        BundleInvalid: it is none, or damaged, tampered with, dangerous or of a version that this one cannot
            read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except OSError as error:
        raise BundleInvalid(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        # What zipfile raises for damage: RuntimeError for encryption, NotImplementedError for a compression
        # it lacks, ValueError for an offset.
        raise BundleInvalid(
            f"{path} is no bundle, or a damaged one: "
            f"{str(error) or 'it ends too early'}; export the study again"
        ) from None


def _read(path: Path, archive: zipfile.ZipFile) -> OpenedBundle:
    infos = _checked_names(path, archive)
    manifest = _manifest(path, _whole(path, archive, infos[MANIFEST]))
    for name, entry in manifest.files.items():
        _check(path, archive, infos[name], entry)
    try:
        spec = parse_spec(json.loads(_whole(path, archive, infos["spec.json"])))
        analysis = StudyAnalysis.model_validate_json(_whole(path, archive, infos["analysis.json"]))
        plan = ResolvedStudy.model_validate_json(_whole(path, archive, infos["plan.json"]))
    except (SpecInvalid, ValidationError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise BundleInvalid(
            f"{path} was written by {manifest.written_by}, and this version cannot make sense of it: {first}"
        ) from None
    return OpenedBundle(manifest, spec, plan, analysis)


def _checked_names(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files by name, once names, sizes and kinds are such as a bundle has."""
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename not in FILES and info.filename != MANIFEST:
            raise BundleInvalid(
                f"{path} is no bundle, or one that was tampered with: no bundle "
                f"holds a file {info.filename[:100]!r}"
            )
        if info.filename in infos:
            raise BundleInvalid(f"{path} was tampered with: {info.filename} is in it twice")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in {
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        }:
            raise BundleInvalid(
                f"{path} was tampered with: {info.filename} is encrypted, or "
                "packed in a way that no bundle is"
            )
        infos[info.filename] = info
    missing = [name for name in (MANIFEST, *FILES) if name not in infos]
    if missing:
        raise BundleInvalid(
            f"{path} is no bundle, or not a whole one: "
            f"{', '.join(missing[:3])}{' and others are' if missing[3:] else ' is'} missing"
        )
    total = sum(info.file_size for info in infos.values())
    swollen = [
        name
        for name, info in infos.items()
        if info.file_size > _FREE_OF_RATIO and info.file_size > _MOST_RATIO * info.compress_size
    ]
    if total > _MOST_BYTES or swollen:
        what = (
            f"{total} bytes"
            if total > _MOST_BYTES
            else f"{swollen[0]} more than {_MOST_RATIO} times its packed size"
        )
        raise BundleInvalid(f"{path} looks like a zip bomb, unpacked it would have {what}; it was not opened")
    return infos


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        written = _Stamp.model_validate_json(content).format
        if written != FORMAT:
            raise BundleInvalid(
                f"{path} has the bundle format {written}, and this version reads {FORMAT}; use the "
                "Tangent that VERSION in it names"
            )
        manifest = Manifest.model_validate_json(content)
    except (ValueError, RecursionError):
        raise BundleInvalid(f"{path} is no bundle: its {MANIFEST} makes no sense") from None
    if set(manifest.files) != set(FILES):
        raise BundleInvalid(f"{path} was tampered with: its {MANIFEST} does not name the files of a bundle")
    return manifest


def _check(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: FileEntry) -> None:
    """Read a file to its end, keeping nothing, and compare it with what the manifest says."""
    digest, size = hashlib.sha256(), 0
    with archive.open(info) as file:
        while size <= entry.bytes and (piece := file.read(_CHUNK)):
            digest.update(piece)
            size += len(piece)
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        raise BundleInvalid(
            f"{path} was damaged or tampered with: {info.filename} is not what {MANIFEST} "
            "says it is; export the study again"
        )


def _whole(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a small file's content."""
    with archive.open(info) as file:
        content = file.read(_MOST_READ + 1)
    if len(content) > _MOST_READ:
        raise BundleInvalid(f"{path} is no bundle: {info.filename} has more than {_MOST_READ} bytes")
    return content
