"""Reads and validates a study's bundle, which may come from an untrusted source.

Every file is checked before any is used, and nothing is unpacked to disk.
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
from studies.analysis.wording import listed
from studies.errors import SpecInvalid, TangentError
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec, parse_spec

_CHUNK: Final = 1 << 20
_MAX_JSON_BYTES: Final = 64 << 20
"""Maximum size of the files that are read as a whole: spec, plan, analysis and manifest."""
_MAX_BYTES: Final = 16 << 30
"""Maximum total size, unpacked. No real study is larger; a larger bundle is an attack on this machine."""
_MAX_RATIO: Final = 200
"""Maximum compression ratio. Tables of numbers shrink to a third, text to a tenth."""
_EXEMPT_BYTES: Final = 1 << 20
"""Files up to this size may have any compression ratio."""
_ENCRYPTED: Final = 0x1


class _FormatOnly(BaseModel):
    """The one field that every version of the manifest has."""

    format: int


class BundleInvalid(TangentError):
    """A file is not a bundle, or cannot be trusted or read."""


@dataclass(frozen=True)
class OpenedBundle:
    """The content of a bundle whose files all match the manifest.

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
        with zipfile.ZipFile(path) as archive:
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
            f"{path} was written by {manifest.written_by} and cannot be read by this version: {first}"
        ) from None
    return OpenedBundle(manifest, spec, plan, analysis)


def _checked_names(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries by name, after checking their names, sizes and compression."""
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
    missing = [name for name in (MANIFEST, *FILES) if name not in infos]
    if missing:
        raise BundleInvalid(f"{path} is not a complete bundle: it lacks {listed(missing, most=3)}")
    total = sum(info.file_size for info in infos.values())
    oversized = [
        name
        for name, info in infos.items()
        if info.file_size > _EXEMPT_BYTES and info.file_size > _MAX_RATIO * info.compress_size
    ]
    if total > _MAX_BYTES or oversized:
        reason = (
            f"it would unpack to {total} bytes"
            if total > _MAX_BYTES
            else f"{oversized[0]} would unpack to more than {_MAX_RATIO} times its compressed size"
        )
        raise BundleInvalid(f"{path} looks like a zip bomb and was not opened: {reason}")
    return infos


def _manifest(path: Path, content: bytes) -> Manifest:
    try:
        written = _FormatOnly.model_validate_json(content).format
        if written != FORMAT:
            raise BundleInvalid(
                f"{path} has bundle format {written}, but this version reads format {FORMAT}; use the "
                "version of Tangent named in its file VERSION"
            )
        manifest = Manifest.model_validate_json(content)
    except (ValueError, RecursionError):
        raise BundleInvalid(f"{path} is not a bundle: its {MANIFEST} is not valid") from None
    if set(manifest.files) != set(FILES):
        raise BundleInvalid(f"{path} was changed: its {MANIFEST} does not list the files of a bundle")
    return manifest


def _check(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: FileEntry) -> None:
    """Read a file to its end and compare its size and digest with the manifest."""
    digest, size = hashlib.sha256(), 0
    with archive.open(info) as file:
        while size <= entry.bytes and (piece := file.read(_CHUNK)):
            digest.update(piece)
            size += len(piece)
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        raise BundleInvalid(
            f"{path} is damaged or was changed: {info.filename} does not match {MANIFEST}; export the study "
            "again"
        )


def _whole(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a small file's content."""
    with archive.open(info) as file:
        content = file.read(_MAX_JSON_BYTES + 1)
    if len(content) > _MAX_JSON_BYTES:
        raise BundleInvalid(f"{path} is not a bundle: {info.filename} is larger than {_MAX_JSON_BYTES} bytes")
    return content
