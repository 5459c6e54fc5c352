"""Folders with packages of the operator (`TANGENT_PACKAGES`), from which Python imports too."""

__all__ = ["package_folders", "use_packages"]

import os
import site
from collections.abc import Iterable
from pathlib import Path


def package_folders(text: str) -> tuple[str, ...]:
    """Return the folders in a list that is separated by colons, as in PATH.

    Raises:
        ValueError: an entry is not an absolute path, not a folder, or the source of a package.
    """
    folders = tuple(str(Path(part.strip()).expanduser()) for part in text.split(os.pathsep) if part.strip())
    for folder in folders:
        if not Path(folder).is_absolute():
            raise ValueError(f"expected absolute paths of folders; start {folder!r} with / or ~")
        if not Path(folder).is_dir():
            raise ValueError(f"expected a folder at {folder}, found none; create it, or change the path")
        if _is_source(Path(folder)):
            raise ValueError(
                f"{folder} holds the source of a package, where Python finds no entry points; install "
                f"it into another folder with `pip install --no-deps --target FOLDER {folder}`, and name that"
            )
    return folders


def use_packages(folders: Iterable[str]) -> None:
    """Import from these folders too, after the installed packages.

    Folders that this machine lacks are skipped. Their entry points are found like those of installed
    packages. A module in them cannot replace one of Python or of an installed package.
    """
    for folder in folders:
        if folder and Path(folder).is_dir():
            site.addsitedir(folder)


def _is_source(folder: Path) -> bool:
    """Return whether a folder has a project to install, and no installed package."""
    is_project = any((folder / name).is_file() for name in ("pyproject.toml", "setup.py"))
    return is_project and not any(folder.glob("*.dist-info")) and not any(folder.glob("*.egg-info"))
