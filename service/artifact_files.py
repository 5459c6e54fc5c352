"""Opens files that studies keep, and describes a response with the whole of one or with a range of it.

A file's URL comes from the database, where a study's run has written it; no part of a request is in it.
"""

__all__ = ["ByteRange", "media_type", "open_artifact", "pieces", "requested_range"]

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from service import errors
from service.errors import HTTPProblem
from studies.artifacts import ArtifactView

_PIECE_BYTES = 1 << 19
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
# Everything else could be a page or a script to a browser.
_MEDIA_TYPES: Final = {
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".log": "text/plain; charset=utf-8",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
}


@dataclass(frozen=True)
class ByteRange:
    """A part of a file: its first byte and its length."""

    start: int
    length: int


def media_type(name: str) -> str:
    """Return the media type of a file by its name: that of a picture or of plain text, or bytes."""
    return _MEDIA_TYPES.get(os.path.splitext(name)[1].lower(), "application/octet-stream")  # noqa: PTH122


def requested_range(header: str | None, *, size: int) -> ByteRange | None:
    """Return the range that a `Range` header asks for; None for the whole file.

    Headers with several ranges, or in another form, are ignored, as RFC 9110 allows.

    Raises:
        HTTPProblem: the range begins after the file's end, or is empty.
    """
    found = None if header is None else _RANGE.fullmatch(header.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start, end = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, end = max(0, size - int(found[2])), size - 1
    if start > end:
        raise HTTPProblem(
            errors.RANGE_INVALID,
            f"expected a range within the {size} bytes of the file, got {header!r}",
            headers={"content-range": f"bytes */{size}"},
        )
    return ByteRange(start, end - start + 1)


def open_artifact(artifact: ArtifactView, url: str) -> IO[bytes]:
    """Open a kept file.

    Raises:
        HTTPProblem: it cannot be read, or is not the file that was kept.
    """
    try:
        file, size = _opened(url)
    # Each storage client has exceptions of its own.
    except Exception as error:
        raise _unavailable(artifact, f"the service gets {type(error).__name__} from the place") from error
    if size != artifact.size:
        file.close()
        raise _unavailable(artifact, f"expected {artifact.size} bytes, got {size}")
    return file


def pieces(file: IO[bytes], part: ByteRange) -> Iterator[bytes]:
    """Yield a part of an open file in pieces."""
    file.seek(part.start)
    left = part.length
    while left and (piece := file.read(min(left, _PIECE_BYTES))):
        left -= len(piece)
        yield piece


def _opened(url: str) -> tuple[IO[bytes], int]:
    if url.startswith("/"):
        # Only a worker writes there. None of them keeps a link, a pipe or a device.
        number = os.open(url, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            os.close(number)
            raise OSError("not a regular file")
        return os.fdopen(number, "rb"), status.st_size
    import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none

    # Fsspec has no stubs.
    filesystem, path = cast("tuple[Any, str]", fsspec.url_to_fs(url))  # pyright: ignore[reportUnknownMemberType]
    return filesystem.open(path, "rb"), int(filesystem.size(path))


def _unavailable(artifact: ArtifactView, reason: str) -> HTTPProblem:
    return HTTPProblem(
        errors.ARTIFACT_UNAVAILABLE,
        f"the file {artifact.name} of trial {artifact.trial_id} cannot be read: {reason}; give the service "
        "access to the folder of the checkpoints",
    )
