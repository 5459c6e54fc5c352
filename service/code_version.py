"""The installed version of Tangent, and its git commit if known."""

__all__ = ["CodeVersion", "code_version"]

import json
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pydantic import Field

from studies.frozen_model import FrozenModel

_DISTRIBUTION = "tangent-studies"


class CodeVersion(FrozenModel):
    """A version of Tangent."""

    version: str = Field(description="Version of the distribution `tangent-studies`.")
    commit: str | None = Field(
        description=("Git commit that it was installed from or is checked out at; null if unknown.")
    )

    def __str__(self) -> str:
        """Return the version as text."""
        return f"{_DISTRIBUTION} {self.version}" + (f", commit {self.commit}" if self.commit else "")


@cache
def code_version() -> CodeVersion:
    """Return the version of the running code."""
    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError:
        return CodeVersion(version="0+source", commit=_checked_out())
    return CodeVersion(version=installed.version, commit=_installed_from(installed))


def _installed_from(installed: Distribution) -> str | None:
    """Return the commit that pip recorded (PEP 610's direct_url.json).

    For an editable installation, return the commit of its checkout.
    """
    try:
        direct_url: dict[str, Any] = json.loads(installed.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    commit = direct_url.get("vcs_info", {}).get("commit_id")
    return (
        commit
        if commit is not None
        else _checked_out()
        if direct_url.get("dir_info", {}).get("editable")
        else None
    )


def _checked_out() -> str | None:
    """Return the commit of this file's git checkout, read from git's files, or None outside a checkout."""
    git = Path(__file__).parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="ascii").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text(encoding="ascii").strip()
        packed = (
            line.partition(" ") for line in (git / "packed-refs").read_text(encoding="ascii").splitlines()
        )
        return next((commit for commit, _, ref in packed if ref == name), None)
    except (OSError, UnicodeDecodeError):
        return None
