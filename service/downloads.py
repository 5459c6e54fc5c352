"""Downloads of kept files: they resume where they were interrupted, and end with the right checksum."""

__all__ = ["DownloadFailed", "download"]

import fcntl
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx

from service.transport import Transport
from studies.artifacts import ArtifactView
from studies.errors import TangentError

_ATTEMPTS = 5
_RETRY_S = 1.0
_READ_BYTES = 1 << 20


class DownloadFailed(TangentError):
    """A file could not be downloaded: it is not kept, or the content that came is not the file's."""


def download(
    transport: Transport,
    artifact: ArtifactView,
    path: Path,
    *,
    on_progress: Callable[[int], None] = lambda _size: None,
) -> None:
    """Download a kept file.

    It is written beside its place under a name that depends on its content, and renamed once it is complete
    and its checksum is right. If the connection breaks, or this is called again, it continues.

    Args:
        transport: the service.
        artifact: the file.
        path: where to write it; a file there is replaced.
        on_progress: called with the bytes that are there so far.

    Raises:
        DownloadFailed: it is not kept, its checksum is wrong, or another process downloads it to this place.
        ProblemError: the service refused the request.
        ServiceUnreachable: no service answers, or the connection broke several times.
        OSError: the file cannot be written.
    """
    if artifact.sha256 is None:
        raise DownloadFailed(f"{artifact.name} of trial {artifact.trial_id} was not kept: {artifact.reason}")
    part = path.with_name(f".{path.name}.{artifact.sha256[:16]}.part")
    with part.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadFailed(f"another process is downloading {path}; wait until it has ended") from None
        digest = _fetch(transport, artifact, file, on_progress)
        if digest != artifact.sha256:
            part.unlink()
            raise DownloadFailed(
                f"expected {artifact.name} with the SHA-256 {artifact.sha256}, got {digest}: the file was "
                "damaged on its way or in its place; download it again"
            )
    part.replace(path)


def _fetch(
    transport: Transport, artifact: ArtifactView, file: IO[bytes], on_progress: Callable[[int], None]
) -> str:
    """Append what is missing to an open file, and return the SHA-256 of all of it."""
    digest, have = hashlib.sha256(), 0
    file.seek(0)
    while piece := file.read(_READ_BYTES):
        digest.update(piece)
        have += len(piece)
    attempt = 0
    while have < artifact.size:
        before = have
        try:
            for piece in transport.read_range(
                f"/v1/artifacts/{artifact.id}/content", start=have, etag=f'"{artifact.sha256}"'
            ):
                file.write(piece)
                digest.update(piece)
                have += len(piece)
                on_progress(have)
        except httpx.TransportError as error:
            attempt = 1 if have > before else attempt + 1
            if attempt >= _ATTEMPTS:
                raise transport.unreachable(error) from error
            time.sleep(attempt * _RETRY_S)
    return digest.hexdigest()
