"""What a workload needs of a machine: an optional extra of this package, and a copy of its data."""

__all__ = ["data_folder", "missing_extra", "missing_files"]

import os
from importlib.util import find_spec
from pathlib import Path

_FOLDER = "TANGENT_DATA"


def data_folder(name: str) -> Path:
    """Return the folder of a data set: `name` in the folder that the variable TANGENT_DATA names.

    Without the variable it is in `~/.tangent/data`.
    """
    return Path(os.environ.get(_FOLDER) or Path.home() / ".tangent" / "data") / name


def missing_extra(extra: str, *modules: str) -> str | None:
    """Return the command that installs an extra, if one of its modules is not installed; else None.

    Args:
        extra: the extra in pyproject.toml, e.g. `vision`.
        modules: top-level modules that the workload imports, e.g. `torchvision`.
    """
    absent = [module for module in modules if find_spec(module) is None]
    if not absent:
        return None
    return (
        f"expected the {'package' if len(absent) == 1 else 'packages'} {' and '.join(absent)}; install with "
        f"`pip install 'tangent-studies[{extra}]'`, then restart the dispatcher"
    )


def missing_files(folder: Path, layout: str, *paths: str) -> str | None:
    """Return the layout that a data set must have, if one of its paths does not exist; else None.

    Args:
        folder: the data set's folder, of `data_folder`.
        layout: what must be in the folder and where it is published, as the end of a sentence.
        paths: files and folders in it that must exist.
    """
    absent = [path for path in paths if not (folder / path).exists()]
    if not absent:
        return None
    return (
        f"expected {', '.join(absent)} in {folder}; put {layout} there, or let {_FOLDER} name the folder "
        f"that contains {folder.name}, then restart the dispatcher"
    )
