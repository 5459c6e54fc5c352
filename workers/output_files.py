"""Files through which the end of a pack's output travels from its worker to its study's run.

They are in the study's checkpoint folder, which all machines reach. A file is never changed: each version has
a name of its own, and its reader deletes it.
"""

__all__ = ["PackOutput", "output_folder", "read_outputs", "write_output"]

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

# Fsspec ships no stubs.
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]

from studies.control_characters import strip_controls
from studies.private_files import create_private_folder, open_privately
from workers.storage import discard, storage_of

_TEXT_CHARACTERS = 8192
# Colours and movements of the cursor, links and titles.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


@dataclass(frozen=True)
class PackOutput:
    """The end of what a worker printed while it trained a pack.

    Attributes:
        url: the file that it was read from.
        pack_id: the pack.
        attempts: the attempt of each of the pack's trials, by trial id.
        tail: the last bytes.
        size: how many bytes it printed in all.
        is_last: whether it was written because the worker had ended during the pack.
    """

    url: str
    pack_id: str
    attempts: Mapping[str, int]
    tail: bytes
    size: int
    is_last: bool = False

    @property
    def text(self) -> str:
        """The last lines as a terminal would show them, without control characters."""
        # The first line may have lost its beginning.
        tail = self.tail if self.size <= len(self.tail) else self.tail.partition(b"\n")[2] or self.tail
        lines = tail.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        shown = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        text = strip_controls(_ESCAPES.sub("", "\n".join(shown))).rstrip()
        if len(text) <= _TEXT_CHARACTERS:
            return text
        text = text[-_TEXT_CHARACTERS:]
        return text.partition("\n")[2] or text


def output_folder(checkpoints: str) -> str:
    """Return the folder for output in a study's checkpoint folder."""
    return f"{checkpoints.rstrip('/')}/output"


def write_output(folder: str, header: Mapping[str, Any], tail: bytes, *, previous: int | None = None) -> None:
    """Write a pack's output, and delete the version before it.

    Args:
        folder: the study's folder for output, a path or URL.
        header: `pack_id`, `attempts` by trial id, `version` (a time), `size` in bytes of the whole,
            and `is_last` if the worker ended during the pack.
        tail: the last bytes of the output.
        previous: the version before it, if there is one.

    Raises:
        OSError: the file cannot be written; storage clients may raise others.
    """
    filesystem, path = storage_of(folder.rstrip("/"))
    content = json.dumps(header).encode() + b"\n" + tail
    name = _file_name(header["pack_id"], header["version"])
    if isinstance(filesystem, LocalFileSystem):
        create_private_folder(Path(path))
        file = Path(path, name)
        part = file.with_suffix(".part")
        try:
            with open(part, "wb", opener=open_privately) as opened:
                opened.write(content)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
    else:
        filesystem.makedirs(path, exist_ok=True)
        filesystem.pipe_file(f"{path}/{name}", content)
    if previous is not None:
        discard(f"{folder.rstrip('/')}/{_file_name(header['pack_id'], previous)}")


def read_outputs(folder: str) -> Iterator[PackOutput]:
    """Yield the outputs in a folder, the versions of a pack in their order. The caller deletes their files.

    Raises:
        OSError: the folder or a file cannot be read; storage clients may raise others.
    """
    filesystem, path = storage_of(folder.rstrip("/"))
    filesystem.invalidate_cache()
    if not filesystem.isdir(path):
        return
    for file in sorted(cast("list[str]", filesystem.ls(path, detail=False))):
        if not file.endswith(".out"):
            continue
        try:
            line, _, tail = cast("bytes", filesystem.cat_file(file)).partition(b"\n")
        except FileNotFoundError:
            # Its writer has replaced it meanwhile.
            continue
        url = f"{folder.rstrip('/')}/{file.rpartition('/')[2]}"
        try:
            header = json.loads(line)
            output = PackOutput(
                url, header["pack_id"], header["attempts"], tail, header["size"], header.get("is_last", False)
            )
        except (ValueError, KeyError, TypeError):
            # A workload may write anything there.
            continue
        yield output


def _file_name(pack_id: str, version: int) -> str:
    return f"{pack_id}-{version:020}.out"
