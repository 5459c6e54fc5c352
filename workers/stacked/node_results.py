"""What the workers of a node have found out about stacks: computed by the first, and read by all others."""

__all__ = ["NodeResults"]

import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Final

import torch

from studies.catalog import PackageVersion
from studies.private_files import create_private_folder
from workers.package_versions import code_of
from workers.workloads.shared_data import locked

_log = logging.getLogger("tangent.training")
_OURS: Final = ("adamp", "studies", "workers")


class NodeResults:
    """A folder of one node with texts by key.

    A text holds for one version of the workload's and the optimizer's package, of Tangent and of torch, and
    for one number of threads.

    Args:
        folder: the folder, on a local disk; it is made when it is needed.
        workloads: the package of each workload that is not built in, by the workload's name.
        optimizers: the package of each optimizer that is not built in, by the optimizer's name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workloads: Mapping[str, PackageVersion],
        optimizers: Mapping[str, PackageVersion],
    ) -> None:
        self._folder = folder
        self._workloads, self._optimizers = workloads, optimizers

    def once(
        self, key: Sequence[object], compute: Callable[[], tuple[str, bool]], *, workload: str, optimizer: str
    ) -> str:
        """Return the text of a key, which the first worker of the node computes while others wait.

        If the files cannot be used, each worker computes a text of its own. Errors of `compute` pass through,
        and nothing is kept then.

        Args:
            key: what the text depends on, beside the versions.
            compute: returns the text, and whether it holds for other workers too. Otherwise it is not kept.
            workload: name of the workload that it is about.
            optimizer: name of the optimizer that it is about.
        """
        packages = (self._workloads.get(workload), self._optimizers.get(optimizer))
        versions = [None if package is None else package.model_dump() for package in packages]
        whole = [key, versions, torch.__version__, torch.get_num_threads(), _our_code()]
        name = hashlib.sha256(json.dumps(whole, default=repr).encode()).hexdigest()[:32]
        file = self._folder / name
        with ExitStack() as held:
            try:
                create_private_folder(self._folder)
                held.enter_context(locked(file.with_suffix(".lock")))
                if file.is_file():
                    return file.read_text(encoding="utf-8")
            except OSError as error:
                _log.warning("cannot share results about stacks on this node: %s", error)
                return compute()[0]
            text, is_kept = compute()
            if not is_kept:
                return text
            # A worker that is killed leaves the whole text or none.
            unfinished = file.with_suffix(f".{uuid.uuid4().hex}")
            try:
                unfinished.write_text(text, encoding="utf-8")
                unfinished.replace(file)
            except OSError as error:
                _log.warning("cannot share results about stacks on this node: %s", error)
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
        return text


@cache
def _our_code() -> str:
    return code_of(*_OURS)
