"""Files at any URL that fsspec supports: a folder, a shared volume or a bucket.

A file is written as a whole or not at all, and is streamed, so it takes no memory. A remote place needs room
for one file in the temporary folder.
"""

__all__ = ["Digest", "FileWriter", "discard", "local_copy", "storage_of", "written"]

import os
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, cast

import fsspec  # pyright: ignore[reportMissingTypeStubs]  # fsspec ships none

# Fsspec ships none.
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]

from studies.private_files import create_private_folder


@contextmanager
def written(url: str) -> Generator[Path]:
    """Yield a local file to write, which is at the URL once the context is left without an error.

    Missing folders are created. On a local disk the file is renamed at the end. Elsewhere it is sent in one
    upload, which only takes effect as a whole.

    Args:
        url: where the file is to be.
    """
    filesystem, path = storage_of(url)
    if isinstance(filesystem, LocalFileSystem):
        target = Path(path)
        create_private_folder(target.parent)
        part = target.with_name(f"{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
        try:
            part.touch(mode=0o600)
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    else:
        with _temporary_file() as part:
            yield part
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            filesystem.put_file(str(part), path)


class Digest(Protocol):
    """A hash of bytes, as `hashlib` has them."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Add bytes."""
        ...


class FileWriter:
    """Passes on what a library writes until the file fails, and keeps that error.

    torch calls it from C++ code that does not survive an exception.

    Attributes:
        error: why the file could not be written; None if it could.
        size: bytes written.
    """

    def __init__(self, file: IO[bytes], digest: Digest | None = None) -> None:
        """Write to an open file; a digest is brought up to date with what is written."""
        self._file, self._digest = file, digest
        self.error: OSError | None = None
        self.size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write data, unless writing has failed before."""
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
            self.size += len(data)
            if self._digest is not None:
                self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: closing the file flushes it."""


def discard(url: str) -> None:
    """Delete a file, or a folder with everything in it, if it exists.

    Raises:
        OSError: it exists and cannot be deleted.
    """
    filesystem, path = storage_of(url)
    try:
        filesystem.rm(path, recursive=True)
    except FileNotFoundError:
        return


def storage_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL or absolute path, and the path in it."""
    # fsspec gives `::` in a path a meaning of its own.
    if url.startswith("/"):
        return LocalFileSystem(), url
    # Fsspec has no stubs.
    return cast("tuple[Any, str]", fsspec.url_to_fs(url))  # pyright: ignore[reportUnknownMemberType]


@contextmanager
def local_copy(url: str) -> Generator[Path]:
    """Yield a local file with what is at a URL: the file itself, or a temporary copy."""
    filesystem, path = storage_of(url)
    if isinstance(filesystem, LocalFileSystem):
        yield Path(path)
        return
    with _temporary_file() as copy:
        filesystem.get_file(path, str(copy))
        yield copy


@contextmanager
def _temporary_file() -> Generator[Path]:
    # It has no name in the temporary folder, so a worker that is killed during a transfer leaves no file.
    with tempfile.TemporaryFile(prefix="tangent-") as file:
        yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
